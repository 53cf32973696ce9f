SELECT consumers, partition, instance, epoch FROM {schema}.owner WHERE service = $1
