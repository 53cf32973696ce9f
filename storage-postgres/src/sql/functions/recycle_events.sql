-- Events of services with a retention are written into one part after the other. When the part that is written is as old as
-- half of the longest retention, an empty one follows; and one in which all events are gone is emptied whole. Before that
-- the newest version of each stream that has no newer event is kept: at most `p_streams` of them at a time.
--
-- Called now and then, by anybody; does nothing while somebody else does it. `more`: there are more streams to keep.
CREATE OR REPLACE FUNCTION {schema}.recycle_events(p_now bigint, p_streams integer, OUT emptied integer, OUT more boolean)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog AS $function$
DECLARE
    c_first CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    v_part {schema}.event_part;
    v_retention bigint;
    v_next smallint;
    v_streams bigint;
    v_service integer;
    v_stream uuid;
BEGIN
    emptied := 0;
    more := false;
    SELECT max(s.event_retention) INTO v_retention FROM {schema}.service s;
    IF v_retention IS NULL OR p_now IS NULL THEN
        RETURN;
    END IF;
    -- One at a time. No exchange takes these rows.
    PERFORM FROM {schema}.event_part p WHERE p.since IS NOT NULL FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT p.* INTO v_part FROM {schema}.event_part p WHERE p.since IS NOT NULL;
    IF p_now - v_part.since >= v_retention / 2 AND pg_relation_size('{schema}.event_' || v_part.part) > 0 THEN
        FOR v_next IN SELECT p.part FROM {schema}.event_part p WHERE p.since IS NULL ORDER BY p.part LOOP
            IF pg_relation_size('{schema}.event_' || v_next) = 0 THEN
                UPDATE {schema}.event_part SET since = NULL, barrier = NULL WHERE part = v_part.part;
                UPDATE {schema}.event_part SET since = p_now, barrier = NULL WHERE part = v_next;
                -- Whoever comes next sees this committed.
                RETURN;
            END IF;
        END LOOP;
    END IF;
    FOR v_part IN SELECT p.* FROM {schema}.event_part p WHERE p.since IS NULL ORDER BY p.part LOOP
        CONTINUE WHEN pg_relation_size('{schema}.event_' || v_part.part) = 0;
        IF v_part.barrier IS NULL OR v_part.barrier > pg_current_xact_id() THEN
            -- An exchange locks its instance's row before it looks which part is written. So whoever has seen this one has a
            -- transaction's number that is smaller than ours. A larger one is of another server, from which this database came.
            UPDATE {schema}.event_part SET barrier = pg_current_xact_id() WHERE part = v_part.part;
            CONTINUE;
        END IF;
        CONTINUE WHEN pg_snapshot_xmin(pg_current_snapshot()) < v_part.barrier;
        CONTINUE WHEN EXISTS (
            SELECT FROM {schema}.service s
            CROSS JOIN LATERAL generate_series(0, s.partitions - 1) partition
            CROSS JOIN LATERAL (SELECT e.position FROM {schema}.event e
                WHERE e.part = v_part.part AND e.service = s.id AND e.partition = partition.partition
                ORDER BY e.position DESC LIMIT 1) newest
            WHERE newest.position > coalesce((SELECT g.position FROM {schema}.event_gone g
                WHERE g.service = s.id AND g.partition = partition.partition), 0)
        );
        v_service := NULL;
        WITH page AS MATERIALIZED (
            SELECT e.service, e.stream, max(e.version) AS version FROM {schema}.event e
            WHERE e.part = v_part.part AND e.stream IS NOT NULL AND e.version IS NOT NULL
                AND (e.service, e.stream) > (coalesce(v_part.kept_service, -1), coalesce(v_part.kept_stream, c_first))
            GROUP BY e.service, e.stream ORDER BY e.service, e.stream LIMIT p_streams
        ), kept AS (
            INSERT INTO {schema}.stream_version AS t (service, stream, version)
                SELECT s.service, s.stream, s.version FROM page s
                WHERE NOT EXISTS (SELECT FROM {schema}.event e
                    WHERE e.service = s.service AND e.stream = s.stream AND e.version > s.version)
                ON CONFLICT (service, stream) DO UPDATE SET version = greatest(t.version, excluded.version)
        )
        SELECT s.service, s.stream, count(*) OVER () INTO v_service, v_stream, v_streams
            FROM page s ORDER BY s.service DESC, s.stream DESC LIMIT 1;
        IF v_streams = p_streams THEN
            UPDATE {schema}.event_part SET kept_service = v_service, kept_stream = v_stream WHERE part = v_part.part;
            more := true;
            RETURN;
        END IF;
        BEGIN
            -- Readers hold it for moments; whoever comes behind us waits no longer than this.
            SET LOCAL lock_timeout = '50ms';
            EXECUTE 'TRUNCATE {schema}.event_' || v_part.part;
            UPDATE {schema}.event_part SET barrier = NULL, kept_service = NULL, kept_stream = NULL
                WHERE part = v_part.part;
            emptied := emptied + 1;
        EXCEPTION WHEN lock_not_available THEN
            CONTINUE;
        END;
    END LOOP;
END
$function$;
