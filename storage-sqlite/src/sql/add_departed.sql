INSERT OR REPLACE INTO whizbang_departed (service, id, start_token, number, digest, at)
SELECT service, id, start_token, number, digest, ?3 FROM whizbang_instance WHERE service = ?1 AND id = ?2;
