-- What has changed since the last look: the service's version, and what has arrived in the partitions that one instance writes.
SELECT s.version, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock, c.*
FROM {schema}.service s CROSS JOIN LATERAL {schema}.come($1, $2, $3) c
WHERE s.id = $1
