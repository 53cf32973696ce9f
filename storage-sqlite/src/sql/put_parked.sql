INSERT INTO whizbang_parked (
    subscription, partition, position, lane, state, was, mode, behind, due, attempts, crashes, instance, dies_at, replay,
    reason, error, parked_at, dead_at, type_name, type_version, bytes, version, record
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23);
