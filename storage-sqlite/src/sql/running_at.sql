SELECT id, position, lane, state, instance, mode, was, reason, dead_at, due, attempts, crashes, dies_at, replay, subscription, partition
FROM whizbang_parked
WHERE instance = ?1 AND state = 4
ORDER BY subscription, partition;
