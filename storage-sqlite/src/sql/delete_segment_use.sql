DELETE FROM whizbang_segment_use WHERE segment = ?1 AND runs <= ?2;
