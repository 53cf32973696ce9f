INSERT OR REPLACE INTO whizbang_state (id, bytes) VALUES (?1, ?2);
