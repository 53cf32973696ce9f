-- From somebody else, in a partition that the instance owns in its group.
SELECT 1 FROM whizbang_arrival AS a
CROSS JOIN whizbang_owner AS o ON o.work_group = ?1 AND o.partition = a.partition - ?2
WHERE a.id > ?3 AND a.sender IS NOT ?4 AND o.instance = ?4
LIMIT 1;
