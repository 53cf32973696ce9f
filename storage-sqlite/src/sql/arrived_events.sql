-- The plus keeps the planner from the index by partition, where a whole backlog may stand. A record's flags stand at its byte 21: an event is 8, one with a stream is 1.
SELECT count(*) FROM whizbang_arrival
WHERE lane = ?2 AND due IS NULL AND +partition = ?1 AND substr(hex(substr(record, 21, 1)), 2, 1) IN ('9', 'B', 'D', 'F');
