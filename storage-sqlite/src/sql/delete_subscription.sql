DELETE FROM whizbang_subscription WHERE id = ?1;
