INSERT INTO whizbang_projection (service, perspective, key, revision, state) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (service, perspective, key) DO UPDATE SET revision = excluded.revision, state = excluded.state;
