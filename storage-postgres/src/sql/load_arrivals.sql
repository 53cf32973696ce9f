-- Those for the partitions that one instance writes, and drafts, of which nobody knows the partition yet. A row for each: one value
-- holds no more than 1 GiB. A further row says what was committed at that moment.
SELECT pg_current_snapshot()::text AS seen, NULL::bigint AS id, NULL::integer AS partition, NULL::bigint AS due,
    NULL::uuid AS lane, NULL::bytea AS record
UNION ALL
SELECT NULL, a.id, a.partition, a.due, a.lane, a.record
FROM {schema}.arrival a
WHERE a.service = $1 AND a.partition = ANY (ARRAY(
    SELECT -1 UNION ALL
    SELECT w.partition FROM (
        SELECT DISTINCT ON (o.partition) o.partition, o.instance FROM {schema}.owner o
        WHERE o.service = $1 AND o.instance IS NOT NULL ORDER BY o.partition, o.consumers
    ) w WHERE w.instance = $2
))
