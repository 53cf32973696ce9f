SELECT partition, what, value FROM {schema}.place WHERE service = $1
