-- Schema version 1: everything. The names begin with whizbang_ because the user's own tables may stand in the same file.
--
-- A *place* is a partition and a position in one number: partition << 40 | position. Partitions are numbered through the
-- whole database, so that the services in it never meet: a service's partition 0 is `first_partition`.
-- Instants and durations are microseconds; instants count from the Unix epoch.

-- One row: how many of the schema's steps were taken.
CREATE TABLE whizbang_schema (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    version INTEGER NOT NULL
) STRICT;

-- What a service agreed on with this database, and what all its instances share.
CREATE TABLE whizbang_service (
    id              INTEGER PRIMARY KEY,
    name            TEXT    NOT NULL UNIQUE,
    partitions      INTEGER NOT NULL,
    time_to_live    INTEGER NOT NULL,
    first_partition INTEGER NOT NULL,
    generation      INTEGER NOT NULL DEFAULT 1, -- grows when membership, ownership or subscriptions change
    truce_until     INTEGER,                    -- nobody is evicted before
    committed_at    INTEGER                     -- of the last batch, where its instance does not tell it
) STRICT;

-- Instances that have joined and neither left nor been evicted.
CREATE TABLE whizbang_instance (
    service     INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    start_token INTEGER NOT NULL,
    number      INTEGER NOT NULL, -- of its last batch
    digest      INTEGER NOT NULL, -- of its last batch
    last_seen   INTEGER NOT NULL,
    work_group  INTEGER,
    PRIMARY KEY (service, id)
) STRICT, WITHOUT ROWID;

-- The message types an instance knows: name, NUL, newest version in decimal, NUL, and so on.
CREATE TABLE whizbang_known_types (
    service  INTEGER NOT NULL,
    instance BLOB    NOT NULL,
    types    BLOB    NOT NULL,
    PRIMARY KEY (service, instance)
) STRICT, WITHOUT ROWID;

-- Instances that are gone; kept for a day, so that a late batch is refused.
CREATE TABLE whizbang_departed (
    service     INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    start_token INTEGER NOT NULL,
    number      INTEGER NOT NULL,
    digest      INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    PRIMARY KEY (service, id)
) STRICT, WITHOUT ROWID;

-- Instances that share work; ids grow with age.
CREATE TABLE whizbang_work_group (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    service INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    UNIQUE (service, name)
) STRICT;

CREATE TABLE whizbang_subscription (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    work_group   INTEGER NOT NULL,
    name         TEXT    NOT NULL,
    on_dead      INTEGER NOT NULL, -- 1 skip, 2 halt
    attempts_max INTEGER NOT NULL,
    paused       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (work_group, name)
) STRICT;

-- Who owns a partition in a group, under which epoch; without an instance it is free.
CREATE TABLE whizbang_owner (
    work_group INTEGER NOT NULL,
    partition  INTEGER NOT NULL,
    instance   BLOB,
    epoch      INTEGER NOT NULL,
    PRIMARY KEY (work_group, partition)
) STRICT, WITHOUT ROWID;

-- How far each partition's log reaches, and up to where its messages were trimmed: two numbers of 64 bits, little endian,
-- for each of 32 partitions. id = service << 8 | the partition of the service / 32.
CREATE TABLE whizbang_head (
    id    INTEGER PRIMARY KEY,
    heads BLOB NOT NULL
) STRICT;

-- Messages that are not events: a row per run of positions that one batch wrote into one partition. Their bytes lie in a
-- segment: what one batch writes lies together, so that it fills pages instead of touching one in every partition.
CREATE TABLE whizbang_run (
    place    INTEGER PRIMARY KEY, -- of its first position
    span     INTEGER NOT NULL,    -- positions it covers
    messages INTEGER NOT NULL,    -- records that are not empty: the others are events, or holes
    segment  INTEGER NOT NULL,
    start    INTEGER NOT NULL,    -- where in the segment its bytes begin
    length   INTEGER NOT NULL     -- of its bytes: the records, then where each of them ends, 32 bits each, little endian
) STRICT;

CREATE TABLE whizbang_segment (
    id    INTEGER PRIMARY KEY,
    bytes BLOB NOT NULL
) STRICT;

-- What of a segment is still needed. It goes when nothing is, or when little is and that was copied into another.
CREATE TABLE whizbang_segment_use (
    segment INTEGER PRIMARY KEY,
    runs    INTEGER NOT NULL,
    needed  INTEGER NOT NULL, -- bytes
    bytes   INTEGER NOT NULL,
    places  BLOB    NOT NULL  -- of all the runs it was written with, 64 bits each, little endian
) STRICT;

-- Events stay when other messages go, and are found by their stream.
CREATE TABLE whizbang_event (
    place   INTEGER PRIMARY KEY,
    stream  BLOB,
    version INTEGER,
    at      INTEGER NOT NULL,
    record  BLOB    NOT NULL
) STRICT;

CREATE INDEX whizbang_event_history ON whizbang_event (stream, version) WHERE stream IS NOT NULL;

-- The version of streams whose last events were trimmed.
CREATE TABLE whizbang_trimmed_stream (
    service INTEGER NOT NULL,
    stream  BLOB    NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (service, stream)
) STRICT, WITHOUT ROWID;

-- Messages that are durable but not in the log yet.
CREATE TABLE whizbang_arrival (
    id        INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    due       INTEGER, -- none: undelayed
    sender    BLOB,    -- none: a user's own transaction
    lane      BLOB    NOT NULL,
    record    BLOB    NOT NULL
) STRICT;

CREATE INDEX whizbang_arrival_by_partition ON whizbang_arrival (partition, due);

CREATE INDEX whizbang_arrival_by_lane ON whizbang_arrival (lane) WHERE due IS NULL;

-- Deduplication keys, in the order they were first seen: id = service << 40 | number.
CREATE TABLE whizbang_dedup (
    id    INTEGER PRIMARY KEY,
    hash  INTEGER NOT NULL, -- xxh3_64 of the key, seeded with the service
    at    INTEGER NOT NULL,
    body  INTEGER NOT NULL, -- xxh3_64 of the payload
    first BLOB    NOT NULL,
    key   BLOB    NOT NULL
) STRICT;

CREATE INDEX whizbang_dedup_by_hash ON whizbang_dedup (hash);

-- Where a subscription stands in each of 32 partitions: for each its length in 32 bits, little endian, and its bytes.
-- id = subscription << 8 | the partition of the service / 32.
CREATE TABLE whizbang_cursor (
    id      INTEGER PRIMARY KEY,
    cursors BLOB NOT NULL
) STRICT;

-- A subscription's own copies of messages that are out of the log's flow.
CREATE TABLE whizbang_parked (
    id           INTEGER PRIMARY KEY,
    subscription INTEGER NOT NULL,
    partition    INTEGER NOT NULL, -- of the service
    position     INTEGER NOT NULL,
    lane         BLOB    NOT NULL,
    state        INTEGER NOT NULL, -- 1 waiting, 2 orphaned, 3 unroutable, 4 running, 5 dead
    was          INTEGER NOT NULL, -- running: the state it had before
    mode         INTEGER NOT NULL, -- running: 0 with others, 1 as a suspect, 2 detached
    behind       INTEGER NOT NULL, -- 1 only while an earlier row of its lane stands before it
    due          INTEGER NOT NULL, -- waiting: when it may run
    attempts     INTEGER NOT NULL,
    crashes      INTEGER NOT NULL,
    instance     BLOB,             -- running: where
    dies_at      INTEGER,          -- when it dies if nobody knows its type
    replay       INTEGER NOT NULL, -- 1: it was dead, and requeued
    reason       INTEGER,          -- dead: why
    error        TEXT    NOT NULL,
    parked_at    INTEGER NOT NULL,
    dead_at      INTEGER,
    type_name    TEXT    NOT NULL,
    type_version INTEGER NOT NULL,
    bytes        INTEGER NOT NULL, -- of payload and metadata
    version      INTEGER,          -- of an event in its stream
    record       BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX whizbang_parked_by_key ON whizbang_parked (subscription, partition, position);

CREATE INDEX whizbang_parked_alive ON whizbang_parked (subscription, lane, position) WHERE state <> 5;

CREATE INDEX whizbang_parked_dead_by_lane ON whizbang_parked (subscription, lane, position) WHERE state = 5;

CREATE INDEX whizbang_parked_waiting ON whizbang_parked (subscription, partition, due, position) WHERE state = 1 AND behind = 0;

CREATE INDEX whizbang_parked_orphaned ON whizbang_parked (subscription, partition, position) WHERE state = 2;

CREATE INDEX whizbang_parked_unroutable ON whizbang_parked (subscription, dies_at) WHERE state = 3;

CREATE INDEX whizbang_parked_running ON whizbang_parked (instance, subscription, partition) WHERE state = 4;

CREATE INDEX whizbang_parked_dead ON whizbang_parked (subscription, partition, position) WHERE state = 5;

CREATE TABLE whizbang_projection (
    id          INTEGER PRIMARY KEY,
    service     INTEGER NOT NULL,
    perspective TEXT    NOT NULL,
    key         BLOB    NOT NULL,
    revision    INTEGER NOT NULL,
    state       BLOB    NOT NULL
) STRICT;

CREATE UNIQUE INDEX whizbang_projection_by_key ON whizbang_projection (service, perspective, key);
