SELECT FROM {schema}.instance WHERE service = $1 AND id = $2 FOR NO KEY UPDATE
