SELECT 1 FROM whizbang_event WHERE place = ?1;
