SELECT state FROM whizbang_cursor WHERE id = ?1;
