DELETE FROM whizbang_dedup WHERE id BETWEEN ?1 AND ?2;
