UPDATE whizbang_segment_use SET runs = runs - ?2, needed = needed - ?3 WHERE segment = ?1;
