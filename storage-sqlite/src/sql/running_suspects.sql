SELECT subscription, partition, crashes FROM whizbang_parked WHERE instance = ?1 AND state = 4 AND mode = 1;
