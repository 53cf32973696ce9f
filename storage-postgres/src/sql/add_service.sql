INSERT INTO {schema}.service (name, partitions, time_to_live) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING
