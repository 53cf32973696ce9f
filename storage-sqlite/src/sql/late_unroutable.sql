SELECT id, position, lane, state, instance, mode, was, reason, dead_at, due, attempts, crashes, dies_at, replay
FROM whizbang_parked
WHERE subscription = ?1 AND state = 3 AND dies_at <= ?2
ORDER BY dies_at;
