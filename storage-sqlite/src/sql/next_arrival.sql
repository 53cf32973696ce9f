SELECT due FROM whizbang_arrival WHERE partition = ?1 ORDER BY due LIMIT 1;
