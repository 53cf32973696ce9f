SELECT position, version, record FROM {schema}.event
WHERE service = $1 AND partition = $2 AND position > $3 AND position <= $4 ORDER BY position LIMIT $5
