SELECT id, due FROM whizbang_arrival WHERE partition = ?1 AND due <= ?2 ORDER BY due, id LIMIT ?3;
