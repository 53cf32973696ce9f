INSERT INTO whizbang_segment_use (segment, runs, needed, bytes, places) VALUES (?1, ?2, ?3, ?3, ?4);
