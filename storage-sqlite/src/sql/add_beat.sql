INSERT INTO whizbang_state (id, number, digest, last_seen) VALUES (?1, ?2, ?3, ?4);
