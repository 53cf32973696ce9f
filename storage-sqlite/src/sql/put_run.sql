INSERT INTO whizbang_run (place, span, messages, segment, start, length) VALUES (?1, ?2, ?3, ?4, ?5, ?6);
