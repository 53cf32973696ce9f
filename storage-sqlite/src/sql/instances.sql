SELECT id, start_token, number, digest, last_seen, work_group FROM whizbang_instance WHERE service = ?1 ORDER BY id;
