SELECT s.id, g.name, s.name, s.paused
FROM whizbang_work_group AS g
JOIN whizbang_subscription AS s ON s.work_group = g.id
WHERE g.service = ?1;
