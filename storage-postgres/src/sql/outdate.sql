-- Whatever was decided before is decided again.
UPDATE {schema}.service SET version = version + 1 WHERE id = $1
