-- What functions have to know that nobody tells: those of whoever opened the service last. Written only where it is news.
UPDATE {schema}.service
SET payload_bytes_max = $2, metadata_bytes_max = $3, name_bytes_max = $4, key_bytes_max = $5, event_retention = $6
WHERE id = $1 AND (payload_bytes_max, metadata_bytes_max, name_bytes_max, key_bytes_max, event_retention)
    IS DISTINCT FROM ($2::integer, $3::integer, $4::integer, $5::integer, $6::bigint)
