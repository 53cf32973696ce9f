SELECT segment, needed, bytes, places FROM whizbang_segment_use
WHERE segment > ?1 AND segment < (SELECT max(segment) FROM whizbang_segment_use) - ?2
ORDER BY segment LIMIT ?3;
