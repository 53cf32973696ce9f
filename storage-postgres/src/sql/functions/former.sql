-- The functions above replace those of the version before, which keep their grants and whatever is built on them. Those that are
-- new begin with what everybody is granted, and get other grants: where they stand beside a former one, with other arguments, that
-- one's, and it goes; the others those of `exchange`, which the same roles call. Whoever owns that one may call the new one as
-- well, should somebody else have made it.
--
-- Functions of the same names that somebody else has made stay: ours for a store's own use begin with these arguments.
DO $former$
DECLARE
    v_before oid[] := current_setting('whizbang.functions_before')::oid[];
    v_new record;
    v_grant record;
BEGIN
    FOR v_new IN
        WITH before AS (
            SELECT p.oid, p.proname AS name, coalesce(p.proacl, acldefault('f', p.proowner)) AS granted,
                -- Not replaced by the statements above.
                p.xmin <> pg_current_xact_id()::xid AS is_former
            FROM pg_proc p
            WHERE p.oid = ANY (v_before) AND p.proname IN ('come', 'exchange', 'lock_members', 'put_members')
                AND p.proargnames[1] IN ('p_service', 'p_outcome')
        )
        SELECT p.oid::regprocedure AS name, p.proowner AS owner, b.granted,
            CASE WHEN b.name = p.proname THEN b.oid::regprocedure END AS former
        FROM pg_proc p JOIN before b ON b.name = coalesce(
            (SELECT f.name FROM before f WHERE f.is_former AND f.name = p.proname LIMIT 1), 'exchange')
        WHERE p.pronamespace = '{schema}'::regnamespace AND p.oid <> ALL (v_before)
            -- Not somebody else's, made meanwhile.
            AND p.xmin = pg_current_xact_id()::xid
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_new.name);
        FOR v_grant IN
            SELECT a.grantee, a.is_grantable FROM aclexplode(v_new.granted) a
            WHERE a.privilege_type = 'EXECUTE' AND a.grantee <> v_new.owner
        LOOP
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s %s', v_new.name,
                CASE v_grant.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(v_grant.grantee)) END,
                CASE WHEN v_grant.is_grantable THEN 'WITH GRANT OPTION' END);
        END LOOP;
        IF v_new.former IS NOT NULL THEN
            EXECUTE format('DROP FUNCTION %s', v_new.former);
        END IF;
    END LOOP;
END
$former$;
