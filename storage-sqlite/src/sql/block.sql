SELECT bytes FROM whizbang_state WHERE id = ?1;
