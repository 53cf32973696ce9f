-- Those for the partitions that one instance writes, and drafts, of which nobody knows the partition yet; with what was
-- committed at that moment.
SELECT pg_current_snapshot()::text AS seen, array_agg(a.id) AS come_ids, array_agg(a.partition) AS come_partitions,
    array_agg(a.due) AS come_dues, array_agg(a.lane) AS come_lanes, array_agg(a.record) AS come
FROM {schema}.arrival a
WHERE a.service = $1 AND a.partition = ANY (ARRAY(
    SELECT -1 UNION ALL
    SELECT w.partition FROM (
        SELECT DISTINCT ON (o.partition) o.partition, o.instance FROM {schema}.owner o
        WHERE o.service = $1 AND o.instance IS NOT NULL ORDER BY o.partition, o.consumers
    ) w WHERE w.instance = $2
))
