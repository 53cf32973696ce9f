SELECT place, span, messages, segment, start, length, bytes FROM whizbang_run WHERE place BETWEEN ?1 AND ?2 ORDER BY place DESC LIMIT 1;
