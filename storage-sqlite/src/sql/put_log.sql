INSERT INTO whizbang_log (place, span, messages, ends, records) VALUES (?1, ?2, ?3, ?4, ?5);
