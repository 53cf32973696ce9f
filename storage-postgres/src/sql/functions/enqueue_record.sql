-- For transactions of users: a message arrives when the transaction commits. Whoever has no Rust at hand calls `enqueue`.
--
-- `record` is the message as this crate encodes it, and `partition` is computed by it as well; -1: `record` is a draft, and
-- whoever takes the message in finds the partition. Answers nothing when the message arrives, or who had the key first; then
-- nothing was written.
CREATE OR REPLACE FUNCTION {schema}.enqueue_record(
    p_service integer, p_partition integer, p_due_in bigint, p_now bigint, p_lane uuid, p_record bytea,
    p_key bytea, p_message uuid, p_body bigint,
    OUT first uuid, OUT first_body bigint
)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog AS $function$
DECLARE
    v_now bigint := coalesce(p_now, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
BEGIN
    IF p_key IS NOT NULL THEN
        LOOP
            INSERT INTO {schema}.dedup (service, key, first, body, at)
                VALUES (p_service, p_key, p_message, p_body,
                    -- None is older than those before it, also when the clock was set back.
                    greatest(v_now, (SELECT max(d.at) FROM {schema}.dedup d WHERE d.service = p_service)))
                ON CONFLICT (service, key) DO NOTHING;
            EXIT WHEN FOUND;
            SELECT d.first, d.body INTO first, first_body FROM {schema}.dedup d
                WHERE d.service = p_service AND d.key = p_key;
            IF FOUND THEN
                RETURN;
            END IF;
            -- It was old, and has been forgotten in between: it is free now.
        END LOOP;
    END IF;
    INSERT INTO {schema}.arrival (service, partition, due, lane, record)
        VALUES (p_service, p_partition, v_now + p_due_in, p_lane, p_record);
END
$function$;
