SELECT id, position, lane, state, instance, mode, was, reason, dead_at, due, attempts, crashes, dies_at, replay
FROM whizbang_parked
WHERE subscription = ?1 AND partition = ?2 AND position = ?3;
