INSERT INTO whizbang_instance (service, id, start_token, state, work_group) VALUES (?1, ?2, ?3, ?4, ?5);
