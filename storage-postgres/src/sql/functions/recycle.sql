-- The log is written into one table after the other. When the one that is written is large, another that is empty follows; and
-- one in which everything is settled is emptied whole, which leaves nothing for a vacuum, whoever still looks at an old snapshot.
--
-- Called now and then, by anybody. Never waits: a table that is in use is looked at again the next time.
CREATE OR REPLACE FUNCTION {schema}.recycle(p_bytes bigint, OUT emptied integer)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog AS $function$
DECLARE
    v_current smallint;
    v_name text;
BEGIN
    emptied := 0;
    SELECT r.segment INTO v_current FROM {schema}.ring r;
    IF pg_table_size('{schema}.log_' || v_current) >= p_bytes THEN
        FOR v_segment IN 0..7 LOOP
            IF pg_relation_size('{schema}.log_' || v_segment) = 0 THEN
                -- Whoever still writes into the one before holds it, and it is looked at again under its lock.
                UPDATE {schema}.ring SET segment = v_segment WHERE segment = v_current;
                EXIT;
            END IF;
        END LOOP;
        SELECT r.segment INTO v_current FROM {schema}.ring r;
    END IF;
    FOR v_segment IN 0..7 LOOP
        v_name := '{schema}.log_' || v_segment;
        CONTINUE WHEN v_segment = v_current OR pg_relation_size(v_name) = 0;
        CONTINUE WHEN {schema}.has_live(v_segment);
        BEGIN
            EXECUTE 'LOCK TABLE ' || v_name || ' IN ACCESS EXCLUSIVE MODE NOWAIT';
            IF NOT {schema}.has_live(v_segment) THEN
                EXECUTE 'TRUNCATE ' || v_name;
                emptied := emptied + 1;
            END IF;
        EXCEPTION WHEN lock_not_available THEN
            -- Somebody reads or writes it.
            CONTINUE;
        END;
    END LOOP;
END
$function$;

-- Whether there is a message in a segment that somebody has not settled. What is trimmed is known as of the last fold, which
-- is never too far.
CREATE OR REPLACE FUNCTION {schema}.has_live(p_segment integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog AS $function$
BEGIN
    RETURN EXISTS (
        SELECT FROM {schema}.log l
        LEFT JOIN {schema}.place p ON p.service = l.service AND p.partition = l.partition AND p.what = 1
        WHERE l.segment = p_segment AND l.last > coalesce(('x' || encode(p.value, 'hex'))::bit(64)::bigint, 0)
    );
END
$function$;
