SELECT count(*) FROM whizbang_arrival WHERE partition >= ?1 AND partition < ?2;
