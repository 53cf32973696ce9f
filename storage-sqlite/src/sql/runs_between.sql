SELECT place, span, messages, segment, start, length, bytes FROM whizbang_run
WHERE place >= coalesce((SELECT max(place) FROM whizbang_run WHERE place BETWEEN ?1 AND ?2), ?2) AND place <= ?3
ORDER BY place;
