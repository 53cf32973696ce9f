DELETE FROM whizbang_cursor WHERE id >= ?1 AND id < ?2;
