DELETE FROM whizbang_arrival WHERE id = ?1;
