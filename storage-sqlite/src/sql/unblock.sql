UPDATE whizbang_parked
SET behind = 0
WHERE behind = 1 AND id = (
    SELECT id FROM whizbang_parked
    WHERE subscription = ?1 AND lane = ?2 AND state <> 5
    ORDER BY position LIMIT 1
);
