INSERT INTO whizbang_projection (service, perspective, key, revision, state) VALUES (?1, ?2, ?3, 1, ?4)
ON CONFLICT (service, perspective, key) DO UPDATE SET revision = revision + 1, state = excluded.state;
