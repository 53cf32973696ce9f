-- The plus keeps the planner from the index by partition, where a whole backlog may stand.
SELECT 1 FROM whizbang_arrival WHERE lane = ?2 AND due IS NULL AND +partition = ?1 LIMIT 1;
