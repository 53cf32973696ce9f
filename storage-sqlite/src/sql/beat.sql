UPDATE whizbang_instance SET number = ?3, digest = ?4, last_seen = ?5 WHERE service = ?1 AND id = ?2;
