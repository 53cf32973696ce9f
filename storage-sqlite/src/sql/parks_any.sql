SELECT EXISTS (SELECT 1 FROM whizbang_parked WHERE subscription = ?1 AND state <> 5)
    OR ?2 AND EXISTS (SELECT 1 FROM whizbang_parked WHERE subscription = ?1 AND state = 5);
