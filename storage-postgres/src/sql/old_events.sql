SELECT e.partition, e.position, e.at
FROM unnest($2::integer[], $3::bigint[]) settled (partition, position)
JOIN {schema}.event e ON e.service = $1 AND e.partition = settled.partition AND e.position <= settled.position
WHERE e.at <= $4
ORDER BY e.partition, e.position LIMIT $5
