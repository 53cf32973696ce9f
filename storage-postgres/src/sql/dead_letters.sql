SELECT p.subscription, p.partition, p.position, p.message, p.meta, p.error, p.record, s.name, g.name
FROM {schema}.parked p
JOIN {schema}.subscription s ON s.service = p.service AND s.number = p.subscription
JOIN {schema}.consumers g ON g.service = p.service AND g.number = s.consumers
WHERE p.service = $1 AND (p.subscription, p.partition, p.position) > ($2, $3, $4) AND p.state = $6
ORDER BY p.subscription, p.partition, p.position LIMIT $5
