INSERT INTO whizbang_work_group (service, name) VALUES (?1, ?2);
