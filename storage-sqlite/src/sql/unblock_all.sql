UPDATE whizbang_parked SET behind = 0 WHERE subscription = ?1 AND state <> 5 AND behind = 1;
