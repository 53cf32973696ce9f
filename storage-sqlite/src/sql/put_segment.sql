INSERT INTO whizbang_segment (bytes) VALUES (?1);
