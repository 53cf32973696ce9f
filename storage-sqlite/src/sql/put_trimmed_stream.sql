INSERT INTO whizbang_trimmed_stream (service, stream, version) VALUES (?1, ?2, ?3)
ON CONFLICT (service, stream) DO UPDATE SET version = max(version, excluded.version);
