SELECT place, span, messages, segment, start, length, bytes FROM whizbang_run WHERE place = ?1 AND segment = ?2;
