INSERT OR REPLACE INTO whizbang_head (id, heads) VALUES (?1, ?2);
