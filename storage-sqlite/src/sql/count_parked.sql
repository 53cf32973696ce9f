SELECT count(*) FILTER (WHERE state NOT IN (3, 5)), count(*) FILTER (WHERE state = 3), count(*) FILTER (WHERE state = 5)
FROM whizbang_parked
WHERE subscription = ?1;
