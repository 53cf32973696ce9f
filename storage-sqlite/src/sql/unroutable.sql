SELECT id, position, lane, state, instance, mode, was, reason, dead_at, due, attempts, crashes, dies_at, replay, bytes, parked_at, partition, type_name, type_version
FROM whizbang_parked
WHERE subscription = ?1 AND state = 3
ORDER BY dies_at;
