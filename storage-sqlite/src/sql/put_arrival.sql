INSERT INTO whizbang_arrival (partition, due, sender, lane, record) VALUES (?1, ?2, ?3, ?4, ?5);
