-- Each instance's one after the other, as their numbers say: a transaction's may be another server's, from which the database came.
SELECT instance, number, digest, at, transaction::text::bigint, removed, places
FROM {schema}.exchange WHERE service = $1 ORDER BY instance, number
