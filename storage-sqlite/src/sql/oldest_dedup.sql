SELECT id, at FROM whizbang_dedup WHERE id BETWEEN ?1 AND ?2 ORDER BY id LIMIT ?3;
