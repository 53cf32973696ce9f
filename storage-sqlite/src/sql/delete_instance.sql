DELETE FROM whizbang_instance WHERE service = ?1 AND id = ?2;
