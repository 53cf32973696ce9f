SELECT {schema}.freeze($1, $2)
