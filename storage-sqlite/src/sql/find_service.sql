SELECT id, first_partition, partitions, time_to_live FROM whizbang_service WHERE name = ?1;
