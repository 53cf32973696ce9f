SELECT 1 FROM whizbang_arrival WHERE partition = ?1 AND substr(record, 5, 16) = ?2 LIMIT 1;
