DELETE FROM whizbang_log WHERE place BETWEEN ?1 AND ?2;
