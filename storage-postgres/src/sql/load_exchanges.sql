SELECT instance, number, digest, at, transaction::text::bigint, removed, places
FROM {schema}.exchange WHERE service = $1 ORDER BY transaction
