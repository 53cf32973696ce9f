-- What concerns all instances (who is there, who owns what, which subscriptions there are) is changed within an exchange: before
-- it, the service's row is locked and it is compared whether anything has changed since the change was decided; behind it, the
-- change is written if the exchange was. Whoever changes nothing of that does not wait here: it compares the version alone.

-- Answers the version that the exchange is to find, which none has if something is not as it was decided on. Locks the service
-- first and then those that are evicted, who must not have done anything since. Who joins gets its row.
CREATE OR REPLACE FUNCTION {schema}.lock_members(
    p_service integer, p_version bigint, p_lock_timeout text, p_instance uuid,
    p_gone uuid[], p_gone_numbers bigint[],
    p_start_token bigint, p_consumers integer, p_types bytea, p_now bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog AS $function$
DECLARE
    v_version bigint;
BEGIN
    PERFORM set_config('lock_timeout', p_lock_timeout, true);
    SELECT s.version INTO v_version FROM {schema}.service s WHERE s.id = p_service FOR NO KEY UPDATE;
    IF v_version IS DISTINCT FROM p_version THEN
        RETURN -1;
    END IF;
    IF p_gone IS NOT NULL THEN
        PERFORM FROM {schema}.instance i
            WHERE i.service = p_service AND i.id = ANY (p_gone) AND i.id <> p_instance ORDER BY i.id FOR NO KEY UPDATE;
        IF EXISTS (
            SELECT FROM unnest(p_gone, p_gone_numbers) g (id, number)
            JOIN {schema}.instance i ON i.service = p_service AND i.id = g.id
            WHERE i.id <> p_instance AND (i.gone_at IS NOT NULL OR g.number <> coalesce((
                SELECT e.number FROM {schema}.exchange e
                WHERE e.service = p_service AND e.instance = i.id ORDER BY e.number DESC LIMIT 1), i.number))
        ) THEN
            RETURN -1;
        END IF;
    END IF;
    IF p_start_token IS NOT NULL THEN
        INSERT INTO {schema}.instance (service, id, start_token, consumers, types, number, digest, at, transaction)
            VALUES (p_service, p_instance, p_start_token, p_consumers, p_types, 0, 0, p_now, pg_current_xact_id());
    END IF;
    RETURN v_version;
END
$function$;

-- Writes the change if the exchange was written; answers whether it was.
CREATE OR REPLACE FUNCTION {schema}.put_members(
    p_outcome integer, p_service integer, p_instance uuid, p_now bigint, p_long_ago bigint, p_joins boolean,
    p_truce bigint, p_groups integer, p_subscriptions integer,
    p_group_numbers integer[], p_group_names text[],
    p_put_numbers integer[], p_put_groups integer[], p_put_names text[], p_put_halts boolean[],
    p_put_attempts_max integer[], p_put_paused boolean[],
    p_dropped integer[],
    p_owner_groups integer[], p_owner_partitions integer[], p_owner_instances uuid[], p_owner_epochs bigint[],
    p_gone uuid[], p_gone_numbers bigint[], p_gone_digests bigint[], p_gone_ats bigint[]
) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog AS $function$
BEGIN
    IF p_outcome <> 0 THEN
        IF p_joins THEN
            DELETE FROM {schema}.instance i WHERE i.service = p_service AND i.id = p_instance AND i.number = 0;
        END IF;
        RETURN false;
    END IF;
    UPDATE {schema}.service s SET version = s.version + 1, truce_until = p_truce, groups = p_groups,
        subscriptions = p_subscriptions WHERE s.id = p_service;
    IF p_joins THEN
        DELETE FROM {schema}.instance i WHERE i.service = p_service AND i.gone_at < p_long_ago;
    END IF;
    INSERT INTO {schema}.consumers (service, number, name)
        SELECT p_service, g.number, g.name FROM unnest(p_group_numbers, p_group_names) g (number, name);
    INSERT INTO {schema}.subscription (service, number, consumers, name, halts, attempts_max, paused)
        SELECT p_service, s.* FROM unnest(p_put_numbers, p_put_groups, p_put_names, p_put_halts, p_put_attempts_max,
            p_put_paused) s
        ON CONFLICT (service, number) DO UPDATE
            SET halts = excluded.halts, attempts_max = excluded.attempts_max, paused = excluded.paused;
    IF p_dropped IS NOT NULL THEN
        DELETE FROM {schema}.subscription s WHERE s.service = p_service AND s.number = ANY (p_dropped);
        -- A cursor's number is the subscription's and one more.
        DELETE FROM {schema}.place p WHERE p.service = p_service AND p.what - 1 = ANY (p_dropped) AND p.what > 1;
        DELETE FROM {schema}.parked p WHERE p.service = p_service AND p.subscription = ANY (p_dropped);
    END IF;
    INSERT INTO {schema}.owner (service, consumers, partition, instance, epoch)
        SELECT p_service, o.* FROM unnest(p_owner_groups, p_owner_partitions, p_owner_instances, p_owner_epochs) o
        ON CONFLICT (service, consumers, partition) DO UPDATE SET instance = excluded.instance, epoch = excluded.epoch;
    IF p_gone IS NOT NULL THEN
        -- What became of them stays for a day: they may ask.
        UPDATE {schema}.instance i SET gone_at = p_now, types = '', number = g.number, digest = g.digest, at = g.at
            FROM unnest(p_gone, p_gone_numbers, p_gone_digests, p_gone_ats) g (id, number, digest, at)
            WHERE i.service = p_service AND i.id = g.id;
        DELETE FROM {schema}.exchange e WHERE e.service = p_service AND e.instance = ANY (p_gone);
    END IF;
    RETURN true;
END
$function$;
