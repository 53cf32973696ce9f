SELECT record FROM {schema}.parked WHERE service = $1 AND partition = $2 AND position = $3 AND subscription = $4
