SELECT partition.partition, greatest(
    (SELECT max(l.last) FROM {schema}.log l WHERE l.service = $1 AND l.partition = partition.partition),
    (SELECT max(e.position) FROM {schema}.event e WHERE e.service = $1 AND e.partition = partition.partition), 0)
FROM generate_series(0, (SELECT s.partitions - 1 FROM {schema}.service s WHERE s.id = $1)) partition
