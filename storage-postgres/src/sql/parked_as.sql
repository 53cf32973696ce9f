SELECT subscription, state, holder, meta, error FROM {schema}.parked
WHERE service = $1 AND partition = $2 AND message = $3 ORDER BY subscription, position
