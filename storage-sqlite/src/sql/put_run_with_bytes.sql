INSERT INTO whizbang_run (place, span, messages, segment, start, length, bytes) VALUES (?1, ?2, ?3, 0, 0, ?4, ?5);
