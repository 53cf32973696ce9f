SELECT id FROM whizbang_arrival WHERE partition = ?1 AND due IS NULL ORDER BY id LIMIT ?2;
