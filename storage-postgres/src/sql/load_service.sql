SELECT version, truce_until, groups, subscriptions, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM {schema}.service WHERE id = $1
