INSERT INTO {schema}.consumers (service, number, name)
SELECT $1, g.number, g.name FROM unnest($2::integer[], $3::text[]) g (number, name)
