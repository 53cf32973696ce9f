DELETE FROM whizbang_departed WHERE service = ?1 AND at < ?2;
