-- Up to the block in which the last one lies.
SELECT l.last, l.bytes FROM {schema}.log l
WHERE l.service = $1 AND l.partition = $2 AND l.last > $3
    AND l.last <= coalesce((
        SELECT e.last FROM {schema}.log e
        WHERE e.service = $1 AND e.partition = $2 AND e.last >= $4 ORDER BY e.last LIMIT 1
    ), $4)
ORDER BY l.last LIMIT $5
