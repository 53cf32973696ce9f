UPDATE whizbang_state SET number = ?2, digest = ?3, last_seen = ?4 WHERE id = ?1;
