SELECT number, name FROM {schema}.consumers WHERE service = $1 ORDER BY number
