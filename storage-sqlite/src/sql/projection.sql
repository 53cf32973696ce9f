SELECT revision, state FROM whizbang_projection WHERE service = ?1 AND perspective = ?2 AND key = ?3;
