SELECT FROM {schema}.instance WHERE service = $1 AND gone_at IS NULL ORDER BY id FOR NO KEY UPDATE
