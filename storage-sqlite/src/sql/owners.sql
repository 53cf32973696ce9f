SELECT partition, instance, epoch FROM whizbang_owner WHERE work_group = ?1;
