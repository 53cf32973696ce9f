SELECT id, position, lane, state, instance, mode, was, reason, dead_at, due, attempts, crashes, dies_at, replay, bytes
FROM whizbang_parked
WHERE subscription = ?1 AND lane = ?2 AND position > ?3 AND state <> 5
ORDER BY position;
