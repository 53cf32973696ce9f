DELETE FROM {schema}.instance WHERE service = $1 AND gone_at < $2
