SELECT s.id, s.work_group, s.name, s.on_dead, s.attempts_max, s.paused
FROM whizbang_work_group AS g
JOIN whizbang_subscription AS s ON s.work_group = g.id
WHERE g.service = ?1;
