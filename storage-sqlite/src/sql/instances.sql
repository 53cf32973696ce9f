SELECT i.id, i.start_token, i.state, i.work_group, s.number, s.digest, s.last_seen
FROM whizbang_instance AS i
JOIN whizbang_state AS s ON s.id = i.state
WHERE i.service = ?1
ORDER BY i.id;
