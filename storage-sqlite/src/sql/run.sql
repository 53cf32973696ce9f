SELECT place, span, messages, segment, start, length FROM whizbang_run WHERE place = ?1 AND segment = ?2;
