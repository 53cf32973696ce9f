SELECT emptied, more FROM {schema}.recycle_events($1, $2)
