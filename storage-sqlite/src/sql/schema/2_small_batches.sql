-- Schema version 2: a small batch changes two pages where it changed six. What every batch moves lies together, and the bytes
-- of a small batch lie in the rows of its runs.

-- Three kinds of rows, none of which is large, so that a service with few subscriptions has them all in one page. The id is
-- (service << 40) + (block << 32) + part, where a block is 32 partitions:
-- - part 0: how far each partition's log reaches, and up to where its messages were trimmed: two numbers of 64 bits, little
--   endian, for each partition of the block;
-- - part = a subscription: where it stands in each partition of the block: for each its length in 32 bits, little endian,
--   and its bytes;
-- - block 255: an instance's last batch. The part is a number that no other living instance of the service has.
CREATE TABLE whizbang_state (
    id        INTEGER PRIMARY KEY,
    bytes     BLOB,
    number    INTEGER, -- of an instance's last batch
    digest    INTEGER, -- of an instance's last batch
    last_seen INTEGER
) STRICT;

INSERT INTO whizbang_state (id, bytes)
SELECT (id >> 8 << 40) + ((id & 255) << 32), heads FROM whizbang_head;

INSERT INTO whizbang_state (id, bytes)
SELECT (g.service << 40) + ((c.id & 255) << 32) + s.id, c.cursors
FROM whizbang_cursor AS c
JOIN whizbang_subscription AS s ON s.id = c.id >> 8
JOIN whizbang_work_group AS g ON g.id = s.work_group;

DROP TABLE whizbang_head;
DROP TABLE whizbang_cursor;

ALTER TABLE whizbang_instance RENAME TO whizbang_instance_1;

-- Instances that have joined and neither left nor been evicted.
CREATE TABLE whizbang_instance (
    service     INTEGER NOT NULL,
    id          BLOB    NOT NULL,
    start_token INTEGER NOT NULL,
    state       INTEGER NOT NULL, -- the row in which its last batch stands
    work_group  INTEGER,
    PRIMARY KEY (service, id)
) STRICT, WITHOUT ROWID;

INSERT INTO whizbang_instance (service, id, start_token, state, work_group)
SELECT service, id, start_token, (service << 40) + (255 << 32) + row_number() OVER (PARTITION BY service ORDER BY id) - 1,
       work_group
FROM whizbang_instance_1;

INSERT INTO whizbang_state (id, number, digest, last_seen)
SELECT i.state, old.number, old.digest, old.last_seen
FROM whizbang_instance AS i
JOIN whizbang_instance_1 AS old ON old.service = i.service AND old.id = i.id;

DROP TABLE whizbang_instance_1;

-- The run's own bytes, where it belongs to no segment: its segment and its start are 0 then.
ALTER TABLE whizbang_run ADD COLUMN bytes BLOB;
