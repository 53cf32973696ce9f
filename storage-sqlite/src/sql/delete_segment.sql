DELETE FROM whizbang_segment WHERE id = ?1;
