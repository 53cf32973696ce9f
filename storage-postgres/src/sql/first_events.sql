SELECT partition.partition, first.position
FROM generate_series(0, (SELECT s.partitions - 1 FROM {schema}.service s WHERE s.id = $1)) partition
CROSS JOIN LATERAL (
    SELECT min(e.position) AS position FROM {schema}.event e
    WHERE e.service = $1 AND e.partition = partition.partition
) first
WHERE first.position IS NOT NULL
