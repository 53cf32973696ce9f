SELECT number, consumers, name, halts, attempts_max, paused FROM {schema}.subscription WHERE service = $1 ORDER BY number
