-- Events lie in parts. Those of services that keep them for ever are in part 0; those of services with a retention go into one
-- of the other parts after the other, and a part in which all are old is emptied whole.
ALTER TABLE {schema}.service ADD COLUMN event_retention bigint;

ALTER TABLE {schema}.event RENAME TO event_0;
ALTER TABLE {schema}.event_0 DROP CONSTRAINT event_pkey;
DROP INDEX {schema}.event_of_stream;
ALTER TABLE {schema}.event_0 ADD COLUMN part smallint NOT NULL DEFAULT 0;
CREATE TABLE {schema}.event (
    service integer NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    stream uuid,
    version bigint,
    at bigint NOT NULL,
    record bytea NOT NULL,
    part smallint NOT NULL,
    -- With the age, so that nobody has to read an event to know that it is old.
    PRIMARY KEY (service, partition, position, part) INCLUDE (at)
) PARTITION BY LIST (part);
ALTER TABLE {schema}.event ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX event_of_stream ON {schema}.event (service, stream, version, part);
ALTER TABLE {schema}.event ATTACH PARTITION {schema}.event_0 FOR VALUES IN (0);
CREATE TABLE {schema}.event_1 PARTITION OF {schema}.event FOR VALUES IN (1);
CREATE TABLE {schema}.event_2 PARTITION OF {schema}.event FOR VALUES IN (2);
CREATE TABLE {schema}.event_3 PARTITION OF {schema}.event FOR VALUES IN (3);
CREATE TABLE {schema}.event_4 PARTITION OF {schema}.event FOR VALUES IN (4);

-- Events up to here are gone, whether or not their part has been emptied yet.
CREATE TABLE {schema}.event_gone (
    service integer NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (service, partition)
) WITH (fillfactor = 50);

-- The part that is written is the one with `since`. Of a part that is not written any more: `barrier` is a transaction before
-- which everybody who may still write into it began; up to which stream the versions were kept, before it is emptied.
CREATE TABLE {schema}.event_part (
    part smallint PRIMARY KEY,
    since bigint,
    barrier xid8,
    kept_service integer,
    kept_stream uuid
);
INSERT INTO {schema}.event_part (part, since) VALUES (1, 0), (2, NULL), (3, NULL), (4, NULL);

-- Whoever may write the events may do so in their parts.
DO $grant$
DECLARE
    v_grant record;
BEGIN
    FOR v_grant IN
        SELECT a.grantee, string_agg(DISTINCT a.privilege_type, ', ') AS privileges
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = '{schema}.event_0'::regclass AND a.grantee <> c.relowner AND a.grantee <> 0
        GROUP BY a.grantee
    LOOP
        EXECUTE format('GRANT %s ON {schema}.event, {schema}.event_1, {schema}.event_2, {schema}.event_3, {schema}.event_4, '
            '{schema}.event_gone, {schema}.event_part TO %I', v_grant.privileges, pg_get_userbyid(v_grant.grantee));
    END LOOP;
END
$grant$;
