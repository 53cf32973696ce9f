SELECT id, position, lane, state, instance, mode, was, reason, dead_at, due, attempts, crashes, dies_at, replay, bytes
FROM whizbang_parked
WHERE subscription = ?1 AND partition = ?2 AND state = 2
ORDER BY position;
