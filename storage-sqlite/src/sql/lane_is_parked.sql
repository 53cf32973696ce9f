SELECT 1
WHERE EXISTS (
    SELECT 1 FROM whizbang_parked WHERE subscription = ?1 AND lane = ?2 AND position < ?3 AND state <> 5
) OR ?4 AND EXISTS (
    SELECT 1 FROM whizbang_parked WHERE subscription = ?1 AND lane = ?2 AND position < ?3 AND state = 5
);
