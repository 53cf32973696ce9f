SELECT id, name FROM whizbang_work_group WHERE service = ?1;
