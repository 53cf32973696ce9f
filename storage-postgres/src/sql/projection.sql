SELECT key, revision, state FROM {schema}.projection WHERE service = $1 AND perspective = $2 AND key = $3
