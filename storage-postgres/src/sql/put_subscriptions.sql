INSERT INTO {schema}.subscription (service, number, consumers, name, halts, attempts_max, paused)
SELECT $1, s.* FROM unnest($2::integer[], $3::integer[], $4::text[], $5::boolean[], $6::integer[], $7::boolean[]) s
ON CONFLICT (service, number) DO UPDATE
    SET halts = excluded.halts, attempts_max = excluded.attempts_max, paused = excluded.paused
