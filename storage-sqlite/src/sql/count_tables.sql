SELECT count(*), count(*) FILTER (WHERE name = 'whizbang_schema') FROM sqlite_schema;
