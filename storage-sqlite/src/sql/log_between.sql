SELECT place, span, ends, records FROM whizbang_log
WHERE place >= coalesce((SELECT max(place) FROM whizbang_log WHERE place BETWEEN ?1 AND ?2), ?2) AND place <= ?3
ORDER BY place;
