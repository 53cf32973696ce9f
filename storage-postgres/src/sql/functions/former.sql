-- The functions above replace those of the version before, which keep their grants and whatever is built on them. Those whose
-- arguments are other ones now stand beside their successors: what was granted on them is granted on these, and they go.
--
-- Functions of the same names that somebody else has made stay: ours for a store's own use begin with these arguments.
DO $former$
DECLARE
    v_former record;
    v_grantee oid;
BEGIN
    FOR v_former IN
        SELECT former.oid::regprocedure AS name, former.proacl AS granted, former.proowner AS owner,
            successor.oid::regprocedure AS successor
        FROM pg_proc former JOIN pg_proc successor
            ON successor.pronamespace = former.pronamespace AND successor.proname = former.proname
        WHERE former.pronamespace = '{schema}'::regnamespace
            AND former.proname IN ('exchange', 'lock_members', 'put_members')
            AND former.proargnames[1] IN ('p_service', 'p_outcome')
            -- Written by the statements above, and not.
            AND successor.xmin = pg_current_xact_id()::xid AND former.xmin <> pg_current_xact_id()::xid
    LOOP
        IF v_former.granted IS NOT NULL THEN
            EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', v_former.successor);
            FOR v_grantee IN
                SELECT a.grantee FROM aclexplode(v_former.granted) a
                WHERE a.privilege_type = 'EXECUTE' AND a.grantee <> v_former.owner
            LOOP
                EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %s', v_former.successor,
                    CASE v_grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(v_grantee)) END);
            END LOOP;
        END IF;
        EXECUTE format('DROP FUNCTION %s', v_former.name);
    END LOOP;
END
$former$;
