SELECT subscription, state, count(*) FROM {schema}.parked WHERE service = $1 GROUP BY subscription, state
