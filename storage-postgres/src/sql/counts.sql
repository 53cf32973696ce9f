SELECT
    (SELECT count(*) FROM {schema}.event e WHERE e.service = $1 AND NOT EXISTS (
        SELECT FROM {schema}.event_gone g WHERE g.service = $1 AND g.partition = e.partition AND g.position >= e.position)),
    (SELECT count(*) FROM unnest($2::integer[], $3::bigint[]) trimmed (partition, position)
        JOIN {schema}.event e ON e.service = $1 AND e.partition = trimmed.partition AND e.position > trimmed.position),
    (SELECT count(*) FROM {schema}.arrival a WHERE a.service = $1),
    (SELECT count(*) FROM {schema}.dedup d WHERE d.service = $1),
    (SELECT count(*) FROM {schema}.projection p WHERE p.service = $1)
