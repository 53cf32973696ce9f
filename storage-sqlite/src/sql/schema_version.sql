SELECT version FROM whizbang_schema;
