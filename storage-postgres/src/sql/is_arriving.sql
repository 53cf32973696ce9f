-- A record begins with a checksum of four bytes and the message's id.
SELECT FROM {schema}.arrival WHERE service = $1 AND partition = $2 AND substring(record FROM 5 FOR 16) = $3 LIMIT 1
