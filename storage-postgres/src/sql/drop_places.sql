-- A cursor's number is the subscription's and one more.
DELETE FROM {schema}.place WHERE service = $1 AND what - 1 = ANY ($2) AND what > 1
