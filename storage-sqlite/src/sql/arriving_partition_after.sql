SELECT partition FROM whizbang_arrival WHERE partition > ?1 AND partition < ?2 ORDER BY partition LIMIT 1;
