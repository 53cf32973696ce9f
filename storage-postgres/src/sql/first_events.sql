SELECT partition.partition, first.position
FROM generate_series(0, (SELECT s.partitions - 1 FROM {schema}.service s WHERE s.id = $1)) partition
CROSS JOIN LATERAL (
    SELECT min(e.position) AS position FROM {schema}.event e
    WHERE e.service = $1 AND e.partition = partition.partition
        AND e.position > coalesce((SELECT g.position FROM {schema}.event_gone g
            WHERE g.service = $1 AND g.partition = partition.partition), 0)
) first
WHERE first.position IS NOT NULL
