UPDATE whizbang_subscription SET paused = ?2 WHERE id = ?1;
