SELECT count(*) FROM whizbang_dedup WHERE id BETWEEN ?1 AND ?2;
