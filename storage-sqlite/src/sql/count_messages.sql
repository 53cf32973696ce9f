SELECT coalesce(sum(messages), 0) FROM whizbang_log WHERE place >= ?1 AND place < ?2;
