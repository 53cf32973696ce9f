UPDATE {schema}.service SET version = version + 1, truce_until = $2, groups = $3, subscriptions = $4 WHERE id = $1
