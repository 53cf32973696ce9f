SELECT cursors FROM whizbang_cursor WHERE id = ?1;
