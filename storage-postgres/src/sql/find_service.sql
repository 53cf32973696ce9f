SELECT id, partitions, time_to_live FROM {schema}.service WHERE name = $1
