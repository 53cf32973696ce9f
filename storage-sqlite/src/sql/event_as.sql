SELECT place FROM whizbang_event WHERE place BETWEEN ?1 AND ?2 AND substr(record, 5, 16) = ?3 LIMIT 1;
