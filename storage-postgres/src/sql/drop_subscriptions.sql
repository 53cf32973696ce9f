DELETE FROM {schema}.subscription WHERE service = $1 AND number = ANY ($2)
