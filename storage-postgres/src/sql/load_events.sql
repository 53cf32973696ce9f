-- Where events lie behind what was trimmed when that was last written to its row.
SELECT e.partition, e.position
FROM generate_series(0, (SELECT s.partitions - 1 FROM {schema}.service s WHERE s.id = $1)) partition
LEFT JOIN {schema}.place p ON p.service = $1 AND p.partition = partition.partition AND p.what = 1
JOIN {schema}.event e ON e.service = $1 AND e.partition = partition.partition
    AND e.position > coalesce(('x' || encode(p.value, 'hex'))::bit(64)::bigint, 0)
