SELECT count(*) FROM whizbang_event WHERE place >= ?1 AND place < ?2;
