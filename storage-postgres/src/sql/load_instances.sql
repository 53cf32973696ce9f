SELECT id, start_token, consumers, types, gone_at IS NOT NULL, number, digest, at, transaction::text::bigint
FROM {schema}.instance WHERE service = $1
