SELECT CASE state WHEN 5 THEN reason END, error FROM whizbang_parked
WHERE subscription = ?1 AND partition = ?2 AND substr(record, 5, 16) = ?3;
