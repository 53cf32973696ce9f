SELECT id, position, lane, state, instance, mode, was, reason, dead_at, due, attempts, crashes, dies_at, replay, bytes
FROM whizbang_parked
WHERE subscription = ?1 AND partition = ?2 AND state = 1 AND behind = 0 AND due <= ?3
ORDER BY due, position;
