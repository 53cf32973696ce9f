SELECT generation, truce_until, committed_at FROM whizbang_service WHERE id = ?1;
