DELETE FROM whizbang_event WHERE place BETWEEN ?1 AND ?2;
