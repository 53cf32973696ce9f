SELECT FROM {schema}.event WHERE service = $1 AND partition = $2 AND position = $3
