-- A record begins with a checksum of four bytes and the message's id; a draft, whose partition nobody knows yet, as well.
SELECT FROM {schema}.arrival WHERE service = $1 AND partition IN ($2, -1) AND substring(record FROM 5 FOR 16) = $3 LIMIT 1
