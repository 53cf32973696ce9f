INSERT OR REPLACE INTO whizbang_schema (one, version) VALUES (1, ?1);
