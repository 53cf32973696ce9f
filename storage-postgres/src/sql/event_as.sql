SELECT position FROM {schema}.event
WHERE service = $1 AND partition = $2 AND substring(record FROM 5 FOR 16) = $3 LIMIT 1
