DELETE FROM whizbang_run WHERE place BETWEEN ?1 AND ?2;
