DELETE FROM whizbang_known_types WHERE service = ?1 AND instance = ?2;
