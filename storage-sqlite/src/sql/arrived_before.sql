SELECT 1 FROM whizbang_arrival WHERE lane = ?2 AND due IS NULL AND partition = ?1 LIMIT 1;
