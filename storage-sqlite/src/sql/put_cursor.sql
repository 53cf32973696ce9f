INSERT OR REPLACE INTO whizbang_cursor (id, state) VALUES (?1, ?2);
