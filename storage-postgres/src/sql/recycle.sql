SELECT emptied FROM {schema}.recycle($1)
