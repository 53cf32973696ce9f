-- Which functions there were before those that follow: `former.sql` looks at them when they are written.
DO $before$
BEGIN
    PERFORM set_config('whizbang.functions_before', (
        SELECT coalesce(array_agg(p.oid), '{}')::text FROM pg_proc p WHERE p.pronamespace = '{schema}'::regnamespace
    ), true);
END
$before$;
