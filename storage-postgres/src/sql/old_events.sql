-- Of each partition the events up to what is settled that all are old: only up to the first that is not.
SELECT old.partition, array_agg(old.position ORDER BY old.position) FROM (
    SELECT settled.partition, e.position
    FROM unnest($2::integer[], $3::bigint[]) settled (partition, position)
    LEFT JOIN {schema}.event_gone g ON g.service = $1 AND g.partition = settled.partition
    LEFT JOIN LATERAL (
        SELECT y.position FROM {schema}.event y
        WHERE y.service = $1 AND y.partition = settled.partition AND y.position > coalesce(g.position, 0)
            AND y.position <= settled.position AND y.at > $4
        ORDER BY y.position LIMIT 1
    ) young ON true
    CROSS JOIN LATERAL (
        SELECT o.position FROM {schema}.event o
        WHERE o.service = $1 AND o.partition = settled.partition AND o.position > coalesce(g.position, 0)
            AND o.position <= coalesce(young.position - 1, settled.position)
        ORDER BY o.position LIMIT $5
    ) e
    ORDER BY settled.partition, e.position LIMIT $5
) old
GROUP BY old.partition
