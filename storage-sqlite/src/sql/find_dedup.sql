SELECT first, body FROM whizbang_dedup WHERE hash = ?1 AND key = ?2 AND id BETWEEN ?3 AND ?4 LIMIT 1;
