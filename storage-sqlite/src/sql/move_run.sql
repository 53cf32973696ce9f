UPDATE whizbang_run SET segment = ?4, start = ?5, length = ?6 WHERE place = ?1 AND span = ?2 AND messages = ?3;
