INSERT INTO whizbang_event (place, stream, version, at, record) VALUES (?1, ?2, ?3, ?4, ?5);
