INSERT OR REPLACE INTO whizbang_departed (service, id, start_token, number, digest, at)
SELECT i.service, i.id, i.start_token, s.number, s.digest, ?3
FROM whizbang_instance AS i
JOIN whizbang_state AS s ON s.id = i.state
WHERE i.service = ?1 AND i.id = ?2;
