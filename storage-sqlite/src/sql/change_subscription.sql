UPDATE whizbang_subscription SET on_dead = ?2, attempts_max = ?3 WHERE id = ?1;
