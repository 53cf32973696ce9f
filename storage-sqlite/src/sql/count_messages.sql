SELECT coalesce(sum(messages), 0) FROM whizbang_run WHERE place >= ?1 AND place < ?2;
