-- What became of them stays for a day: they may ask.
UPDATE {schema}.instance i SET gone_at = $2, types = '', number = g.number, digest = g.digest, at = g.at
FROM unnest($3::uuid[], $4::bigint[], $5::bigint[], $6::bigint[]) g (id, number, digest, at)
WHERE i.service = $1 AND i.id = g.id
