SELECT (SELECT count(*) FROM whizbang_arrival WHERE partition = ?1 AND due IS NULL)
     + (SELECT count(*) FROM whizbang_arrival WHERE partition = ?1 AND due <= ?2);
