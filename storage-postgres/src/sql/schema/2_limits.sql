-- What the function `enqueue` refuses: the limits of whoever opened the service last.
ALTER TABLE {schema}.service
    ADD COLUMN payload_bytes_max integer NOT NULL DEFAULT 1048576,
    ADD COLUMN metadata_bytes_max integer NOT NULL DEFAULT 4096,
    ADD COLUMN name_bytes_max integer NOT NULL DEFAULT 200,
    ADD COLUMN key_bytes_max integer NOT NULL DEFAULT 512;
