SELECT position, trimmed FROM whizbang_head WHERE partition = ?1;
