-- A database that was restored from a dump holds transactions of the server that it came from, also such as its new server has not
-- come to: they would look as if they had just been committed, for as long as it takes to come to them. A row that is seen and is
-- of a transaction that had not begun when it was looked for cannot be this server's own. It gets the number with which
-- PostgreSQL itself marks what everybody sees.
--
-- Called with every new connection; answers whether there was such a row. Where nothing was restored, it is one look at the newest
-- arrivals, and one at the few rows of instances and exchanges.
CREATE OR REPLACE FUNCTION {schema}.freeze(p_service integer, p_lock_timeout text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog SET enable_seqscan = off AS $function$
DECLARE
    c_frozen CONSTANT xid8 := '2';
    v_found boolean;
BEGIN
    IF NOT EXISTS (SELECT FROM {schema}.instance i
            WHERE i.service = p_service AND i.transaction >= pg_snapshot_xmax(pg_current_snapshot()))
        AND NOT EXISTS (SELECT FROM {schema}.exchange e
            WHERE e.service = p_service AND e.transaction >= pg_snapshot_xmax(pg_current_snapshot()))
        AND NOT EXISTS (SELECT FROM {schema}.arrival a
            WHERE a.service = p_service AND a.transaction >= pg_snapshot_xmax(pg_current_snapshot()))
    THEN
        RETURN false;
    END IF;
    -- One after the other: whoever has waited sees what the one before has done, and finds nothing.
    PERFORM set_config('lock_timeout', p_lock_timeout, true);
    PERFORM FROM {schema}.service s WHERE s.id = p_service FOR NO KEY UPDATE;
    UPDATE {schema}.instance i SET transaction = c_frozen
        WHERE i.service = p_service AND i.transaction >= pg_snapshot_xmax(pg_current_snapshot());
    v_found := FOUND;
    UPDATE {schema}.exchange e SET transaction = c_frozen
        WHERE e.service = p_service AND e.transaction >= pg_snapshot_xmax(pg_current_snapshot());
    v_found := v_found OR FOUND;
    UPDATE {schema}.arrival a SET transaction = c_frozen
        WHERE a.service = p_service AND a.transaction >= pg_snapshot_xmax(pg_current_snapshot());
    RETURN v_found OR FOUND;
END
$function$;
