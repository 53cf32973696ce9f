SELECT start_token, number, digest FROM whizbang_departed WHERE service = ?1 AND id = ?2;
