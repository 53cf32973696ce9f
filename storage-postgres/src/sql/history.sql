SELECT partition, position, version, record FROM {schema}.event
WHERE service = $1 AND stream = $2 AND version > $3 ORDER BY version LIMIT $4
