-- What has changed since the last look: the service's version, and what has arrived in the partitions that one instance writes.
SELECT s.version, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock, pg_current_snapshot()::text AS seen,
    c.come_ids, c.come_partitions, c.come_dues, c.come_lanes, c.come
FROM {schema}.service s CROSS JOIN LATERAL (
    SELECT array_agg(a.id) AS come_ids, array_agg(a.partition) AS come_partitions, array_agg(a.due) AS come_dues,
        array_agg(a.lane) AS come_lanes, array_agg(a.record) AS come
    FROM (
        SELECT * FROM {schema}.arrival a
        WHERE a.service = $1 AND a.transaction >= pg_snapshot_xmax($2::text::pg_snapshot)
        UNION ALL
        SELECT a.* FROM pg_snapshot_xip($2::text::pg_snapshot) open (transaction)
        JOIN {schema}.arrival a ON a.service = $1 AND a.transaction = open.transaction
    ) a
    WHERE a.partition = ANY ($3)
) c
WHERE s.id = $1
