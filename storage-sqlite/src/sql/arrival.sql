SELECT record FROM whizbang_arrival WHERE id = ?1;
