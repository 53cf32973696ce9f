INSERT INTO {schema}.instance (service, id, start_token, consumers, types, number, digest, at, transaction)
VALUES ($1, $2, $3, $4, $5, 0, 0, $6, pg_current_xact_id())
