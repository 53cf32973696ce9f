-- One exchange: what the client has decided is written if everything it assumed is still so; otherwise nothing is written and
-- the answer says how things are. Every statement sees what was committed before it began, so all comparisons are made
-- after the lock.
--
-- outcome: 0 written, 1 the service has changed or the instance is gone, 2 another number is next, 3 the clocks differ,
-- 4 somebody is silent, 5 arrivals came, 6 something else is not as assumed.
CREATE OR REPLACE FUNCTION {schema}.exchange(
    p_service integer, p_instance uuid, p_number bigint, p_digest bigint, p_version bigint,
    p_now bigint, p_tolerance bigint, p_lateness bigint, p_silence bigint, p_lock_timeout text,
    p_keys bytea[], p_key_firsts uuid[], p_key_bodies bigint[],
    p_streams uuid[], p_versions bigint[],
    p_compared_perspectives text[], p_compared_keys bytea[], p_compared_revisions bigint[],
    p_seen text, p_written integer[], p_moves boolean, p_lanes bytea,
    p_block_partitions integer[], p_block_lasts bigint[], p_blocks bytea[],
    p_event_partitions integer[], p_event_positions bigint[], p_event_streams uuid[], p_event_versions bigint[],
    p_events bytea[],
    p_arrival_partitions integer[], p_arrival_dues bigint[], p_arrival_lanes uuid[], p_arrivals bytea[],
    p_moved bigint[],
    p_parked_subscriptions integer[], p_parked_partitions integer[], p_parked_positions bigint[],
    p_parked_states smallint[], p_parked_holders uuid[], p_parked_messages uuid[], p_parked_metas bytea[],
    p_parked_errors text[], p_parked bytea[],
    p_ended_subscriptions integer[], p_ended_partitions integer[], p_ended_positions bigint[],
    p_perspectives text[], p_projection_keys bytea[], p_projection_befores bigint[], p_projection_revisions bigint[],
    p_projections bytea[],
    p_places bytea, p_base_partitions integer[], p_base_whats integer[], p_base_values bytea[],
    p_folds boolean,
    p_old_event_partitions integer[], p_old_event_positions bigint[],
    p_old_keys bigint, p_old_keys_max bigint, p_removed integer,
    p_channel text,
    p_expected_streams uuid[], p_expected_partitions integer[], p_expected_versions bigint[], p_writers uuid[], p_drafts bigint[],
    OUT outcome integer, OUT number bigint, OUT clock bigint, OUT removed bigint,
    OUT found_keys bytea[], OUT found_firsts uuid[], OUT found_bodies bigint[],
    OUT found_versions bigint[], OUT found_revisions bigint[],
    OUT found_expected bigint[], OUT found_draft_ids bigint[], OUT found_drafts bytea[],
    OUT seen text, OUT come_ids bigint[], OUT come_partitions integer[], OUT come_dues bigint[], OUT come_lanes uuid[],
    OUT come bytea[],
    OUT arrived_ids bigint[]
)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog AS $function$
#variable_conflict use_column
DECLARE
    v_folded bigint;
    v_gone bigint;
    v_version bigint;
    v_segment smallint;
    v_part smallint;
    v_last bigint;
    v_differs boolean := false;
    v_at bigint;
    v_deleted bigint;
BEGIN
    -- For this transaction only, so that nobody else who is given the connection by a pooler has it.
    PERFORM set_config('lock_timeout', p_lock_timeout, true);
    IF p_expected_streams IS NOT NULL THEN
        -- Something is expected of streams that others write. With their writers' rows nobody can append there; and with the
        -- service's, taken first, nobody else can expect anything elsewhere or change who writes, and no two wait for each other.
        PERFORM FROM {schema}.service s WHERE s.id = p_service FOR NO KEY UPDATE;
        PERFORM FROM {schema}.instance i
            WHERE i.service = p_service AND i.id = ANY (p_writers) ORDER BY i.id FOR NO KEY UPDATE;
    END IF;
    outcome := 1;
    SELECT i.number, i.gone_at INTO v_folded, v_gone FROM {schema}.instance i
        WHERE i.service = p_service AND i.id = p_instance FOR NO KEY UPDATE;
    IF NOT FOUND OR v_gone IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT s.version, coalesce((SELECT e.number FROM {schema}.exchange e
            WHERE e.service = p_service AND e.instance = p_instance ORDER BY e.number DESC LIMIT 1), v_folded),
        r.segment, CASE WHEN s.event_retention IS NULL THEN 0
            ELSE (SELECT p.part FROM {schema}.event_part p WHERE p.since IS NOT NULL) END,
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
        INTO v_version, v_last, v_segment, v_part, clock
        FROM {schema}.service s, {schema}.ring r WHERE s.id = p_service;
    number := v_last;
    IF v_last <> p_number - 1 THEN
        outcome := 2;
        RETURN;
    ELSIF v_version <> p_version THEN
        RETURN;
    ELSIF p_now - clock > p_tolerance OR clock - p_now > p_lateness THEN
        outcome := 3;
        RETURN;
    END IF;
    -- A large batch has been on its way for a while; it is a sign of life of now.
    v_at := CASE WHEN p_tolerance IS NULL THEN p_now ELSE greatest(clock, p_now) END;
    IF p_silence IS NOT NULL AND EXISTS (
        SELECT FROM {schema}.instance i
        WHERE i.service = p_service AND i.gone_at IS NULL AND i.id <> p_instance
            AND p_now - greatest(i.at, (SELECT e.at FROM {schema}.exchange e
                WHERE e.service = p_service AND e.instance = i.id ORDER BY e.number DESC LIMIT 1)) >= p_silence
    ) THEN
        outcome := 4;
        RETURN;
    END IF;

    IF p_seen IS NOT NULL THEN
        SELECT c.* INTO seen, come_ids, come_partitions, come_dues, come_lanes, come
            FROM {schema}.come(p_service, p_seen, p_written) c;
        IF come_ids IS NOT NULL AND EXISTS (
            SELECT FROM unnest(come_partitions, come_dues, come_lanes) c (partition, due, lane)
            WHERE (p_moves AND (c.due IS NULL OR c.due <= p_now))
                -- A draft (-1) may be of any lane.
                OR (c.due IS NULL AND p_lanes <> ''
                    AND (c.partition = -1 OR position(substring(uuid_send(c.lane) FROM 9) IN p_lanes) > 0))
        ) THEN
            outcome := 5;
            RETURN;
        END IF;
    END IF;

    outcome := 6;
    IF p_keys IS NOT NULL THEN
        SELECT array_agg(d.key), array_agg(d.first), array_agg(d.body) INTO found_keys, found_firsts, found_bodies
            FROM {schema}.dedup d WHERE d.service = p_service AND d.key = ANY (p_keys);
    END IF;
    IF p_streams IS NOT NULL THEN
        SELECT array_agg(greatest(
                (SELECT max(e.version) FROM {schema}.event e WHERE e.service = p_service AND e.stream = a.stream),
                (SELECT v.version FROM {schema}.stream_version v WHERE v.service = p_service AND v.stream = a.stream), 0)
                ORDER BY a.nth)
            INTO found_versions
            FROM unnest(p_streams) WITH ORDINALITY a (stream, nth);
    END IF;
    IF p_expected_streams IS NOT NULL THEN
        -- With the events that wait for the log; in a record's flags an event is 8, one with a stream is 1.
        SELECT array_agg(greatest(
                (SELECT max(e.version) FROM {schema}.event e WHERE e.service = p_service AND e.stream = x.stream),
                (SELECT v.version FROM {schema}.stream_version v WHERE v.service = p_service AND v.stream = x.stream), 0)
                + (SELECT count(*) FROM {schema}.arrival a
                    WHERE a.service = p_service AND a.partition = x.partition AND a.lane = x.stream AND a.due IS NULL
                        AND length(a.record) > 20 AND get_byte(a.record, 20) & 9 = 9)
                ORDER BY x.nth)
            INTO found_expected
            FROM unnest(p_expected_streams, p_expected_partitions) WITH ORDINALITY x (stream, partition, nth);
        -- Whose a draft is (-1), only the client can tell.
        SELECT array_agg(a.id ORDER BY a.id), array_agg(a.record ORDER BY a.id) INTO found_draft_ids, found_drafts
            FROM {schema}.arrival a WHERE a.service = p_service AND a.partition = -1 AND a.due IS NULL;
        IF found_expected <> p_expected_versions OR found_draft_ids IS DISTINCT FROM p_drafts THEN
            v_differs := true;
        END IF;
    END IF;
    IF p_compared_keys IS NOT NULL THEN
        -- Locked, so that of two instances that have read one revision only one writes the next.
        PERFORM FROM {schema}.projection p
            JOIN unnest(p_compared_perspectives, p_compared_keys) c (perspective, key)
                ON p.perspective = c.perspective AND p.key = c.key
            WHERE p.service = p_service ORDER BY p.perspective, p.key FOR UPDATE OF p;
        SELECT array_agg(coalesce(p.revision, 0) ORDER BY c.nth) INTO found_revisions
            FROM unnest(p_compared_perspectives, p_compared_keys) WITH ORDINALITY c (perspective, key, nth)
            LEFT JOIN {schema}.projection p
                ON p.service = p_service AND p.perspective = c.perspective AND p.key = c.key;
    END IF;
    IF v_differs OR found_keys IS NOT NULL OR found_versions <> p_versions OR found_revisions <> p_compared_revisions THEN
        RETURN;
    END IF;

    outcome := 0;
    removed := p_removed;
    IF p_keys IS NOT NULL THEN
        INSERT INTO {schema}.dedup (service, key, first, body, at)
            SELECT p_service, k.key, k.first, k.body,
                -- None is older than those before it, also when the clock was set back.
                greatest(p_now, (SELECT max(d.at) FROM {schema}.dedup d WHERE d.service = p_service))
            FROM unnest(p_keys, p_key_firsts, p_key_bodies) WITH ORDINALITY k (key, first, body, nth) ORDER BY k.nth;
    END IF;
    IF p_blocks IS NOT NULL THEN
        INSERT INTO {schema}.log (segment, service, partition, last, bytes)
            SELECT v_segment, p_service, b.partition, b.last, b.bytes
            FROM unnest(p_block_partitions, p_block_lasts, p_blocks) b (partition, last, bytes);
    END IF;
    IF p_events IS NOT NULL THEN
        INSERT INTO {schema}.event (service, partition, position, stream, version, at, record, part)
            SELECT p_service, e.partition, e.position, e.stream, e.version, p_now, e.record, v_part
            FROM unnest(p_event_partitions, p_event_positions, p_event_streams, p_event_versions, p_events)
                e (partition, position, stream, version, record);
    END IF;
    IF p_moved IS NOT NULL THEN
        DELETE FROM {schema}.arrival a WHERE a.id = ANY (p_moved);
        GET DIAGNOSTICS v_deleted = ROW_COUNT;
        IF v_deleted <> cardinality(p_moved) THEN
            -- Some are gone, and perhaps in the log already: the client is to read again what has arrived.
            RAISE EXCEPTION 'of % arrivals only % are there to be moved', cardinality(p_moved), v_deleted
                USING ERRCODE = 'serialization_failure';
        END IF;
    END IF;
    IF p_arrivals IS NOT NULL THEN
        WITH arrived AS (
            INSERT INTO {schema}.arrival (service, partition, due, lane, record)
                SELECT p_service, a.partition, a.due, a.lane, a.record
                FROM unnest(p_arrival_partitions, p_arrival_dues, p_arrival_lanes, p_arrivals)
                    WITH ORDINALITY a (partition, due, lane, record, nth) ORDER BY a.nth
                RETURNING id
        ) SELECT array_agg(id ORDER BY id) INTO arrived_ids FROM arrived;
    END IF;
    IF p_ended_positions IS NOT NULL THEN
        DELETE FROM {schema}.parked p
            USING unnest(p_ended_subscriptions, p_ended_partitions, p_ended_positions) e (subscription, partition, position)
            WHERE p.service = p_service AND p.subscription = e.subscription AND p.partition = e.partition
                AND p.position = e.position;
    END IF;
    IF p_parked_positions IS NOT NULL THEN
        -- Without a record: a row that is there already. Without an error: it keeps its own.
        INSERT INTO {schema}.parked AS t
            (service, subscription, partition, position, state, holder, message, meta, error, record)
            SELECT p_service, p.subscription, p.partition, p.position, p.state, p.holder, p.message, p.meta,
                coalesce(p.error, ''), p.record
            FROM unnest(p_parked_subscriptions, p_parked_partitions, p_parked_positions, p_parked_states,
                p_parked_holders, p_parked_messages, p_parked_metas, p_parked_errors, p_parked)
                p (subscription, partition, position, state, holder, message, meta, error, record)
            WHERE p.record IS NOT NULL;
        UPDATE {schema}.parked t
            SET state = p.state, holder = p.holder, meta = p.meta, error = coalesce(p.error, t.error)
            FROM unnest(p_parked_subscriptions, p_parked_partitions, p_parked_positions, p_parked_states,
                p_parked_holders, p_parked_metas, p_parked_errors, p_parked)
                p (subscription, partition, position, state, holder, meta, error, record)
            WHERE t.service = p_service AND t.subscription = p.subscription AND t.partition = p.partition
                AND t.position = p.position AND p.record IS NULL;
    END IF;
    IF p_projection_keys IS NOT NULL THEN
        DELETE FROM {schema}.projection t
            USING unnest(p_perspectives, p_projection_keys, p_projections) p (perspective, key, state)
            WHERE t.service = p_service AND t.perspective = p.perspective AND t.key = p.key AND p.state IS NULL;
        -- Where there was none, another instance's insert in the meantime is an error, and the exchange is decided again.
        INSERT INTO {schema}.projection (service, perspective, key, revision, state)
            SELECT p_service, p.perspective, p.key, p.revision, p.state
            FROM unnest(p_perspectives, p_projection_keys, p_projection_befores, p_projection_revisions, p_projections)
                p (perspective, key, before, revision, state)
            WHERE p.state IS NOT NULL AND p.before = 0
            ORDER BY p.perspective COLLATE "C", p.key;
        UPDATE {schema}.projection t SET revision = p.revision, state = p.state
            FROM unnest(p_perspectives, p_projection_keys, p_projection_befores, p_projection_revisions, p_projections)
                p (perspective, key, before, revision, state)
            WHERE t.service = p_service AND t.perspective = p.perspective AND t.key = p.key
                AND p.state IS NOT NULL AND p.before > 0;
    END IF;
    IF p_old_event_positions IS NOT NULL THEN
        INSERT INTO {schema}.event_gone AS t (service, partition, position)
            SELECT p_service, o.partition, max(o.position)
            FROM unnest(p_old_event_partitions, p_old_event_positions) o (partition, position)
            GROUP BY o.partition ORDER BY o.partition
            ON CONFLICT (service, partition) DO UPDATE SET position = greatest(t.position, excluded.position);
        -- Their part is emptied whole, but for what was written when they were to be kept for ever.
        WITH old AS (
            DELETE FROM {schema}.event e
                USING (SELECT o.partition, max(o.position) AS position
                    FROM unnest(p_old_event_partitions, p_old_event_positions) o (partition, position) GROUP BY o.partition) o
                WHERE e.part = 0 AND e.service = p_service AND e.partition = o.partition AND e.position <= o.position
                RETURNING e.stream, e.version
        )
        INSERT INTO {schema}.stream_version AS t (service, stream, version)
            SELECT p_service, old.stream, max(old.version) FROM old WHERE old.stream IS NOT NULL GROUP BY old.stream
            ORDER BY old.stream
            ON CONFLICT (service, stream) DO UPDATE SET version = greatest(t.version, excluded.version);
    END IF;
    IF p_old_keys_max > 0 THEN
        WITH old AS (
            DELETE FROM {schema}.dedup d WHERE (d.service, d.key) IN (
                SELECT o.service, o.key FROM {schema}.dedup o
                WHERE o.service = p_service AND o.at <= p_old_keys ORDER BY o.at, o.id LIMIT p_old_keys_max
            ) RETURNING 1
        ) SELECT removed + count(*) INTO removed FROM old;
    END IF;
    INSERT INTO {schema}.exchange (service, instance, number, digest, at, removed, places)
        VALUES (p_service, p_instance, p_number, p_digest, v_at, removed, p_places);
    IF p_base_partitions IS NOT NULL THEN
        INSERT INTO {schema}.place AS t (service, partition, what, value)
            SELECT p_service, b.partition, b.what, b.value
            FROM unnest(p_base_partitions, p_base_whats, p_base_values) b (partition, what, value)
            ORDER BY b.partition, b.what
            ON CONFLICT (service, partition, what) DO UPDATE
                SET value = CASE WHEN t.what <= 1 THEN greatest(t.value, excluded.value) ELSE excluded.value END;
    END IF;
    IF p_folds THEN
        UPDATE {schema}.instance i SET number = p_number, digest = p_digest, at = v_at, transaction = pg_current_xact_id()
            WHERE i.service = p_service AND i.id = p_instance;
        -- Those before were deleted by the fold before, and are not looked at again: an old snapshot may keep them.
        DELETE FROM {schema}.exchange e
            WHERE e.service = p_service AND e.instance = p_instance AND e.number > v_folded AND e.number <= p_number;
    END IF;
    IF p_channel IS NOT NULL THEN
        PERFORM pg_notify(p_channel, '');
    END IF;
END
$function$;
