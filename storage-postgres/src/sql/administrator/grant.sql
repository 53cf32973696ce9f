GRANT USAGE ON SCHEMA {schema} TO {role};
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA {schema} TO {role};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA {schema} TO {role};
-- Which version the schema has is written by whoever owns it; a service only reads it.
DO $grant$
BEGIN
    IF (SELECT pg_get_userbyid(c.relowner) FROM pg_class c WHERE c.oid = '{schema}.schema_version'::regclass) <> {role_name} THEN
        EXECUTE format('REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {schema}.schema_version FROM %I', {role_name});
    END IF;
END
$grant$;
