-- All of the service, or only what concerns one instance: what it has or owns, what it might take, and what anybody may be
-- handed.
SELECT p.subscription, p.partition, p.position, p.message, p.state, p.holder, p.meta
FROM {schema}.parked p
WHERE p.service = $1 AND ($3 OR p.holder = $2 OR p.state = 3 OR EXISTS (
    SELECT FROM {schema}.owner o
    JOIN {schema}.subscription s ON s.service = o.service AND s.consumers = o.consumers
    WHERE o.service = $1 AND (o.instance = $2 OR o.instance IS NULL) AND o.partition = p.partition
        AND s.number = p.subscription
))
