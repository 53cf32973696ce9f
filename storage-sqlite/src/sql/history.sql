SELECT place, version, record FROM whizbang_event
WHERE stream = ?1 AND version > ?2 AND place BETWEEN ?3 AND ?4
ORDER BY version LIMIT ?5;
