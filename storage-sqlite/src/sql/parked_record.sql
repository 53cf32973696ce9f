SELECT record, version FROM whizbang_parked WHERE id = ?1;
