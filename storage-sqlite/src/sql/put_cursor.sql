INSERT OR REPLACE INTO whizbang_cursor (id, cursors) VALUES (?1, ?2);
