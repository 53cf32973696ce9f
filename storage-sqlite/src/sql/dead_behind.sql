SELECT position FROM whizbang_parked
WHERE subscription = ?1 AND lane = ?2 AND position > ?3 AND state = 5
ORDER BY position LIMIT 1;
