SELECT place, stream, version, record FROM whizbang_event WHERE place BETWEEN ?1 AND ?2 ORDER BY place;
