SELECT p.subscription, p.partition, p.position, p.record
FROM unnest($2::integer[], $3::integer[], $4::bigint[]) k (subscription, partition, position)
JOIN {schema}.parked p ON p.service = $1 AND p.subscription = k.subscription AND p.partition = k.partition
    AND p.position = k.position
