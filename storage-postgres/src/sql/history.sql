SELECT partition, position, version, record FROM {schema}.event
WHERE service = $1 AND stream = $2 AND version > $3 AND NOT EXISTS (
    SELECT FROM {schema}.event_gone g WHERE g.service = $1 AND g.partition = event.partition AND g.position >= event.position
)
ORDER BY version LIMIT $4
