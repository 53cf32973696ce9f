SELECT FROM {schema}.service WHERE id = $1 FOR NO KEY UPDATE
