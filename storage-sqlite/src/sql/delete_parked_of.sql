DELETE FROM whizbang_parked WHERE subscription = ?1;
