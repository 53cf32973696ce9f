INSERT OR REPLACE INTO whizbang_known_types (service, instance, types) VALUES (?1, ?2, ?3);
