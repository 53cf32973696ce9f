DELETE FROM {schema}.parked WHERE service = $1 AND subscription = ANY ($2)
