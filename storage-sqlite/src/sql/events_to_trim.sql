SELECT place, stream, version, at FROM whizbang_event WHERE place BETWEEN ?1 AND ?2 ORDER BY place LIMIT ?3;
