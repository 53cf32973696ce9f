SELECT position FROM {schema}.event
WHERE service = $1 AND partition = $2
    AND position > coalesce((SELECT g.position FROM {schema}.event_gone g WHERE g.service = $1 AND g.partition = $2), 0)
    AND substring(record FROM 5 FOR 16) = $3 LIMIT 1
