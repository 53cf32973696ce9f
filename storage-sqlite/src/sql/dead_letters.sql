SELECT partition, position, reason, error, attempts, crashes, parked_at, dead_at, record FROM whizbang_parked
WHERE subscription = ?1 AND state = 5 AND (partition, position) > (?2, ?3)
ORDER BY partition, position LIMIT ?4;
