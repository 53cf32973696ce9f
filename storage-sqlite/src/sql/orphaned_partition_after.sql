SELECT partition FROM whizbang_parked
WHERE subscription = ?1 AND state = 2 AND partition > ?2
ORDER BY partition LIMIT 1;
