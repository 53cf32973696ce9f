INSERT INTO whizbang_dedup (id, hash, at, body, first, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6);
