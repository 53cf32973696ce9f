-- What follows is for a schema of version {from} (0: it is not there) and for no other; nobody else migrates it meanwhile.
DO $from$
DECLARE
    v_found integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('whizbang'), hashtext(btrim('{schema}', '"')));
    IF to_regclass('{schema}.schema_version') IS NOT NULL THEN
        v_found := (SELECT version FROM {schema}.schema_version);
    END IF;
    IF v_found IS NULL THEN
        RAISE EXCEPTION 'the schema {schema} has a table schema_version without a row: nobody knows which version it has';
    ELSIF v_found > {known} THEN
        RAISE EXCEPTION 'the schema {schema} has version %, this script knows versions up to {known}: print it with the newer program', v_found;
    ELSIF v_found <> {from} THEN
        RAISE EXCEPTION 'the schema {schema} has version % and not {from}: print this script with --from %', v_found, v_found;
    END IF;
END
$from$;

