-- Where events lie behind what was trimmed.
SELECT e.partition, e.position
FROM unnest($2::integer[], $3::bigint[]) trimmed (partition, position)
CROSS JOIN LATERAL (
    SELECT e.partition, e.position FROM {schema}.event e
    WHERE e.service = $1 AND e.partition = trimmed.partition AND e.position > trimmed.position
    ORDER BY e.position
) e
