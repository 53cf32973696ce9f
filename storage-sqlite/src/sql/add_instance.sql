INSERT INTO whizbang_instance (service, id, start_token, number, digest, last_seen, work_group)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7);
