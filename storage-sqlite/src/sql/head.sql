SELECT heads FROM whizbang_head WHERE id = ?1;
