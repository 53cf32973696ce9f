INSERT INTO {schema}.owner (service, consumers, partition, instance, epoch)
SELECT $1, o.* FROM unnest($2::integer[], $3::integer[], $4::uuid[], $5::bigint[]) o
ON CONFLICT (service, consumers, partition) DO UPDATE SET instance = excluded.instance, epoch = excluded.epoch
