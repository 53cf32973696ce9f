INSERT INTO whizbang_subscription (work_group, name, on_dead, attempts_max) VALUES (?1, ?2, ?3, ?4);
