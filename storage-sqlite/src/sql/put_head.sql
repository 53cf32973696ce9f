INSERT OR REPLACE INTO whizbang_head (partition, position, trimmed) VALUES (?1, ?2, ?3);
