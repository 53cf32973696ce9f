DELETE FROM {schema}.exchange WHERE service = $1 AND instance = ANY ($2)
