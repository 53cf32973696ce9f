SELECT place, span, ends, records FROM whizbang_log WHERE place BETWEEN ?1 AND ?2 ORDER BY place;
