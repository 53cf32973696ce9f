INSERT OR REPLACE INTO whizbang_owner (work_group, partition, instance, epoch) VALUES (?1, ?2, ?3, ?4);
