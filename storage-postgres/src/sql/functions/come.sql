-- What has arrived since a look at the arrivals, in some partitions, and what that look has seen.
--
-- It is asked with every exchange, and nearly always it is little. So it is found by its transaction: never by its partition, where
-- all the arrivals are that wait, and those that were moved and not cleared away yet; and never by reading the whole table, which
-- looks cheap to a planner that does not know how little it is.
CREATE OR REPLACE FUNCTION {schema}.come(
    p_service integer, p_seen text, p_partitions integer[],
    OUT seen text, OUT come_ids bigint[], OUT come_partitions integer[], OUT come_dues bigint[], OUT come_lanes uuid[],
    OUT come bytea[]
)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog SET enable_seqscan = off AS $function$
BEGIN
    -- Offsets keep the condition on the partition outside.
    SELECT pg_current_snapshot()::text, array_agg(a.id), array_agg(a.partition), array_agg(a.due), array_agg(a.lane),
        array_agg(a.record)
        INTO seen, come_ids, come_partitions, come_dues, come_lanes, come
        FROM (
            (SELECT * FROM {schema}.arrival a
                WHERE a.service = p_service AND a.transaction >= pg_snapshot_xmax(p_seen::pg_snapshot) OFFSET 0)
            UNION ALL
            (SELECT a.* FROM pg_snapshot_xip(p_seen::pg_snapshot) open (transaction)
                CROSS JOIN LATERAL (SELECT * FROM {schema}.arrival a
                    WHERE a.service = p_service AND a.transaction = open.transaction OFFSET 0) a)
        ) a
        WHERE a.partition = ANY (p_partitions);
END
$function$;
