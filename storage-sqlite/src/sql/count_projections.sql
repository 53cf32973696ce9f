SELECT count(*) FROM whizbang_projection WHERE service = ?1;
