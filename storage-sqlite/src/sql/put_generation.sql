UPDATE whizbang_service SET generation = ?2, truce_until = ?3, committed_at = ?4 WHERE id = ?1;
