INSERT INTO whizbang_service (name, partitions, time_to_live, first_partition)
VALUES (?1, ?2, ?3, (SELECT coalesce(max(first_partition + partitions), 0) FROM whizbang_service))
RETURNING first_partition;
