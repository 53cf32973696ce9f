INSERT INTO whizbang_segment (bytes) VALUES (zeroblob(?1));
