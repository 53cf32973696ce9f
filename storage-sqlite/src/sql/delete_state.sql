DELETE FROM whizbang_state WHERE id = ?1;
