-- The functions of the version before: those of this one follow, whole.
DO $drop$
DECLARE
    v_function regprocedure;
BEGIN
    FOR v_function IN SELECT p.oid FROM pg_proc p WHERE p.pronamespace = '{schema}'::regnamespace
        AND p.proname IN ('exchange', 'lock_members', 'put_members', 'enqueue_record', 'enqueue', 'recycle', 'recycle_events',
            'has_live')
    LOOP
        EXECUTE 'DROP FUNCTION ' || v_function;
    END LOOP;
END
$drop$;
