UPDATE whizbang_parked
SET state = ?2, was = ?3, mode = ?4, behind = 0, due = ?5, attempts = ?6, crashes = ?7, instance = ?8, dies_at = ?9,
    replay = ?10, reason = ?11, dead_at = ?12, error = coalesce(?13, error)
WHERE id = ?1;
