-- The only row says which version of this crate's tables these are.
CREATE TABLE {schema}.schema_version (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    version integer NOT NULL
);

-- A service, and what all its instances must know alike. Who changes any of that holds the row's lock, and adds one to
-- `version`; who has decided on another version decides again.
CREATE TABLE {schema}.service (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    partitions integer NOT NULL,
    time_to_live bigint NOT NULL,
    version bigint NOT NULL DEFAULT 0,
    truce_until bigint,
    groups integer NOT NULL DEFAULT 0,
    subscriptions integer NOT NULL DEFAULT 0
);

-- Instances, also those that have gone. Number, digest and time are those of the last exchange that was folded.
CREATE TABLE {schema}.instance (
    service integer NOT NULL,
    id uuid NOT NULL,
    start_token bigint NOT NULL,
    consumers integer,
    types bytea NOT NULL,
    gone_at bigint,
    number bigint NOT NULL,
    digest bigint NOT NULL,
    at bigint NOT NULL,
    transaction xid8 NOT NULL,
    PRIMARY KEY (service, id)
) WITH (fillfactor = 50);

-- What each exchange has moved: appended here, folded into `place` and `instance` now and then, so that nothing is updated
-- in place once an exchange.
CREATE TABLE {schema}.exchange (
    service integer NOT NULL,
    instance uuid NOT NULL,
    number bigint NOT NULL,
    digest bigint NOT NULL,
    at bigint NOT NULL,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    removed integer NOT NULL,
    places bytea NOT NULL,
    PRIMARY KEY (service, instance, number)
) WITH (toast_tuple_target = 8160);
ALTER TABLE {schema}.exchange ALTER COLUMN places SET STORAGE EXTERNAL;

-- Consumer groups.
CREATE TABLE {schema}.consumers (
    service integer NOT NULL,
    number integer NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (service, number)
);

CREATE TABLE {schema}.owner (
    service integer NOT NULL,
    consumers integer NOT NULL,
    partition integer NOT NULL,
    instance uuid,
    epoch bigint NOT NULL,
    PRIMARY KEY (service, consumers, partition)
) WITH (fillfactor = 50);

CREATE TABLE {schema}.subscription (
    service integer NOT NULL,
    number integer NOT NULL,
    consumers integer NOT NULL,
    name text NOT NULL,
    halts boolean NOT NULL,
    attempts_max integer NOT NULL,
    paused boolean NOT NULL,
    PRIMARY KEY (service, number)
);

-- Heads (what = 0), what is trimmed (1) and cursors (the subscription's number + 1), as of the last fold.
CREATE TABLE {schema}.place (
    service integer NOT NULL,
    partition integer NOT NULL,
    what integer NOT NULL,
    value bytea NOT NULL,
    PRIMARY KEY (service, partition, what)
) WITH (fillfactor = 50);

-- Which part of the log is written; the others wait until everything in them is settled, and are emptied whole.
CREATE TABLE {schema}.ring (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    segment smallint NOT NULL
);
INSERT INTO {schema}.ring (segment) VALUES (0);

-- Messages that are not events, many of one partition in a row.
CREATE TABLE {schema}.log (
    segment smallint NOT NULL,
    service integer NOT NULL,
    partition integer NOT NULL,
    last bigint NOT NULL,
    bytes bytea NOT NULL,
    PRIMARY KEY (service, partition, last, segment)
) PARTITION BY LIST (segment);
ALTER TABLE {schema}.log ALTER COLUMN bytes SET STORAGE EXTERNAL;

CREATE TABLE {schema}.log_0 PARTITION OF {schema}.log FOR VALUES IN (0) WITH (toast_tuple_target = 8160);
CREATE TABLE {schema}.log_1 PARTITION OF {schema}.log FOR VALUES IN (1) WITH (toast_tuple_target = 8160);
CREATE TABLE {schema}.log_2 PARTITION OF {schema}.log FOR VALUES IN (2) WITH (toast_tuple_target = 8160);
CREATE TABLE {schema}.log_3 PARTITION OF {schema}.log FOR VALUES IN (3) WITH (toast_tuple_target = 8160);
CREATE TABLE {schema}.log_4 PARTITION OF {schema}.log FOR VALUES IN (4) WITH (toast_tuple_target = 8160);
CREATE TABLE {schema}.log_5 PARTITION OF {schema}.log FOR VALUES IN (5) WITH (toast_tuple_target = 8160);
CREATE TABLE {schema}.log_6 PARTITION OF {schema}.log FOR VALUES IN (6) WITH (toast_tuple_target = 8160);
CREATE TABLE {schema}.log_7 PARTITION OF {schema}.log FOR VALUES IN (7) WITH (toast_tuple_target = 8160);

-- Events, as long as they are kept.
CREATE TABLE {schema}.event (
    service integer NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    stream uuid,
    version bigint,
    at bigint NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (service, partition, position)
);
ALTER TABLE {schema}.event ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX event_of_stream ON {schema}.event (service, stream, version);

-- The versions of streams whose last event has been removed.
CREATE TABLE {schema}.stream_version (
    service integer NOT NULL,
    stream uuid NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (service, stream)
);

-- Messages on their way into the log, from anybody.
CREATE TABLE {schema}.arrival (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    service integer NOT NULL,
    partition integer NOT NULL,
    due bigint,
    lane uuid NOT NULL,
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    record bytea NOT NULL
);
ALTER TABLE {schema}.arrival ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE INDEX arrival_by_transaction ON {schema}.arrival (service, transaction);
CREATE INDEX arrival_by_partition ON {schema}.arrival (service, partition);

CREATE TABLE {schema}.dedup (
    service integer NOT NULL,
    key bytea NOT NULL,
    first uuid NOT NULL,
    body bigint NOT NULL,
    at bigint NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY,
    PRIMARY KEY (service, key)
);
CREATE INDEX dedup_by_age ON {schema}.dedup (service, at, id);

CREATE TABLE {schema}.projection (
    service integer NOT NULL,
    perspective text COLLATE "C" NOT NULL,
    key bytea NOT NULL,
    revision bigint NOT NULL,
    state bytea NOT NULL,
    PRIMARY KEY (service, perspective, key)
);

-- Messages out of the log's flow; `meta` is everything about one that only this crate looks at.
CREATE TABLE {schema}.parked (
    service integer NOT NULL,
    subscription integer NOT NULL,
    partition integer NOT NULL,
    position bigint NOT NULL,
    state smallint NOT NULL,
    holder uuid,
    message uuid NOT NULL,
    meta bytea NOT NULL,
    error text NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (service, subscription, partition, position)
) WITH (fillfactor = 80);
ALTER TABLE {schema}.parked ALTER COLUMN record SET STORAGE EXTERNAL;
