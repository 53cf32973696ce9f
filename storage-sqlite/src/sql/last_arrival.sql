SELECT max(id) FROM whizbang_arrival;
