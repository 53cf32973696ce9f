DELETE FROM whizbang_parked WHERE id = ?1;
