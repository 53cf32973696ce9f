SELECT place, span, ends, records FROM whizbang_log WHERE place = ?1;
