-- Enqueues a message in the caller's own transaction, from any language. Its comment, at the end, says everything about it.
CREATE OR REPLACE FUNCTION {schema}.enqueue(
    service text, type_name text, payload bytea,
    stream_key text DEFAULT NULL, stream uuid DEFAULT NULL,
    kind text DEFAULT 'command', type_version integer DEFAULT 1, content_type text DEFAULT 'json',
    headers text[] DEFAULT '{}', traceparent text DEFAULT NULL,
    dedup_key bytea DEFAULT NULL, due_in interval DEFAULT NULL,
    message uuid DEFAULT NULL, correlation uuid DEFAULT NULL, causation uuid DEFAULT NULL,
    wake boolean DEFAULT true,
    OUT id uuid, OUT arrived boolean, OUT same_body boolean
)
LANGUAGE plpgsql VOLATILE SECURITY INVOKER SET search_path = pg_catalog AS $function$
DECLARE
    c_due_in_max CONSTANT numeric := 1000::numeric * 366 * 86400 * 1000000;
    c_nil CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    v_service {schema}.service;
    v_kind integer := array_position(ARRAY['command', 'event'], enqueue.kind);
    v_content_type integer := array_position(ARRAY['json', 'postcard'], enqueue.content_type);
    v_trace text[] := regexp_match(enqueue.traceparent, '^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$');
    v_metadata bytea := '';
    -- Not cast yet: what is too long for a bigint is refused below.
    v_due_in numeric := extract(epoch FROM enqueue.due_in) * 1000000;
    v_body bigint := ('x' || encode(substring(sha256(enqueue.payload) FROM 1 FOR 8), 'hex'))::bit(64)::bigint;
    v_refused text;
    v_name text;
    v_value text;
    v_first uuid;
    v_first_body bigint;
BEGIN
    SELECT s.* INTO v_service FROM {schema}.service s WHERE s.name = enqueue.service;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this database knows no service "%"; open a store for it once', enqueue.service
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- The headers as the engine packs them: a format, whether there is a trace, the trace, and of each header the lengths of
    -- name and value, name and value.
    IF coalesce(array_ndims(enqueue.headers), 0) > 2 OR cardinality(enqueue.headers) % 2 <> 0
        OR EXISTS (SELECT FROM unnest(enqueue.headers) h (text) WHERE h.text IS NULL)
    THEN
        v_refused := 'headers are pairs of a name and a value, none of them null';
    ELSIF EXISTS (SELECT FROM unnest(enqueue.headers) WITH ORDINALITY h (text, nth) WHERE h.nth % 2 = 1
        GROUP BY h.text HAVING count(*) > 1)
    THEN
        v_refused := 'a header is named twice';
    ELSIF cardinality(enqueue.headers) > 128 THEN
        v_refused := format('a message carries at most 64 headers, not %s', cardinality(enqueue.headers) / 2);
    ELSIF enqueue.traceparent IS NOT NULL
        AND (v_trace IS NULL OR v_trace[1] ~ '^0+$' OR v_trace[2] ~ '^0+$')
    THEN
        v_refused := 'not a W3C traceparent: 00-<32 digits>-<16 digits>-<2 digits>, lower-case hexadecimal, is one';
    ELSE
        FOR v_name, v_value IN
            SELECT min(h.text) FILTER (WHERE h.nth % 2 = 1), min(h.text) FILTER (WHERE h.nth % 2 = 0)
            FROM unnest(enqueue.headers) WITH ORDINALITY h (text, nth) GROUP BY (h.nth + 1) / 2 ORDER BY (h.nth + 1) / 2
        LOOP
            IF octet_length(convert_to(v_name, 'UTF8')) NOT BETWEEN 1 AND 255 THEN
                v_refused := format('a header name of %s bytes: 1 to 255 are possible',
                    octet_length(convert_to(v_name, 'UTF8')));
            ELSIF octet_length(v_metadata) + 3 + octet_length(convert_to(v_name, 'UTF8'))
                + octet_length(convert_to(v_value, 'UTF8')) > 4000
            THEN
                v_refused := 'a message carries at most 4000 bytes of headers';
            END IF;
            EXIT WHEN v_refused IS NOT NULL;
            v_metadata := v_metadata || substring(int2send(octet_length(convert_to(v_name, 'UTF8'))::smallint) FROM 2)
                || substring(int2send(octet_length(convert_to(v_value, 'UTF8'))::smallint) FROM 2)
                || substring(int2send(octet_length(convert_to(v_value, 'UTF8'))::smallint) FROM 1 FOR 1)
                || convert_to(v_name, 'UTF8') || convert_to(v_value, 'UTF8');
        END LOOP;
        IF v_trace IS NOT NULL THEN
            v_metadata := '\x0101'::bytea || decode(v_trace[1] || v_trace[2] || v_trace[3], 'hex') || v_metadata;
        ELSIF octet_length(v_metadata) > 0 THEN
            v_metadata := '\x0100'::bytea || v_metadata;
        END IF;
    END IF;

    v_refused := CASE
        WHEN v_refused IS NOT NULL THEN v_refused
        WHEN enqueue.type_name IS NULL OR enqueue.payload IS NULL THEN 'a message has a type and a payload: neither is null'
        WHEN octet_length(convert_to(enqueue.type_name, 'UTF8')) NOT BETWEEN 1 AND v_service.name_bytes_max THEN
            format('the type name has %s bytes or a NUL character: 1 to %s bytes without NUL are allowed',
                octet_length(convert_to(enqueue.type_name, 'UTF8')), v_service.name_bytes_max)
        WHEN octet_length(enqueue.payload) > v_service.payload_bytes_max THEN
            format('the payload has %s bytes, %s are allowed', octet_length(enqueue.payload), v_service.payload_bytes_max)
        WHEN octet_length(v_metadata) > v_service.metadata_bytes_max THEN
            format('the metadata have %s bytes, %s are allowed', octet_length(v_metadata), v_service.metadata_bytes_max)
        WHEN octet_length(enqueue.dedup_key) NOT BETWEEN 1 AND v_service.key_bytes_max THEN
            format('the key has %s bytes, 1 to %s are allowed', octet_length(enqueue.dedup_key), v_service.key_bytes_max)
        WHEN v_kind IS NULL THEN format('%L is no kind of message: ''command'' and ''event'' are', enqueue.kind)
        WHEN v_content_type IS NULL THEN
            format('%L is no content type: ''json'' and ''postcard'' are', enqueue.content_type)
        WHEN coalesce(enqueue.type_version NOT BETWEEN 0 AND 65535, true) THEN
            format('a type has no version %s: 0 to 65535 are possible', enqueue.type_version)
        WHEN enqueue.stream_key IS NOT NULL AND enqueue.stream IS NOT NULL THEN
            'a stream is named by its key or by its id, not by both'
        WHEN octet_length(convert_to(enqueue.stream_key, 'UTF8')) > v_service.payload_bytes_max THEN
            format('the stream key has %s bytes, %s are allowed',
                octet_length(convert_to(enqueue.stream_key, 'UTF8')), v_service.payload_bytes_max)
        WHEN c_nil IN (enqueue.stream, enqueue.message, enqueue.correlation, enqueue.causation) THEN
            'the nil UUID is not an id'
        WHEN v_due_in < 0 THEN format('a message cannot be due %s ago', -enqueue.due_in)
        WHEN v_due_in > c_due_in_max THEN format('a message cannot be due in %s: a thousand years are possible', enqueue.due_in)
    END;
    IF v_refused IS NOT NULL THEN
        RAISE EXCEPTION '%', v_refused USING ERRCODE = 'invalid_parameter_value';
    END IF;

    -- Where nobody names the message, a UUIDv7 does.
    id := coalesce(enqueue.message, encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6),
        52, 1), 53, 1), 'hex')::uuid);
    SELECT e.first, e.first_body INTO v_first, v_first_body FROM {schema}.enqueue_record(
        v_service.id, -1, v_due_in::bigint, NULL, id,
        -- A draft: hashes are computed by who takes it in.
        '\x00000001'::bytea || uuid_send(id) || substring(int2send(v_kind::smallint) FROM 2)
            || substring(int2send(v_content_type::smallint) FROM 2)
            || substring(int4send(enqueue.type_version) FROM 3)
            || coalesce(uuid_send(enqueue.stream), uuid_send(c_nil))
            || coalesce(uuid_send(enqueue.correlation), uuid_send(c_nil))
            || coalesce(uuid_send(enqueue.causation), uuid_send(c_nil))
            || int4send(coalesce(octet_length(convert_to(enqueue.stream_key, 'UTF8')), -1))
            || int4send(octet_length(convert_to(enqueue.type_name, 'UTF8')))
            || int4send(octet_length(v_metadata))
            || coalesce(convert_to(enqueue.stream_key, 'UTF8'), '') || convert_to(enqueue.type_name, 'UTF8')
            || v_metadata || enqueue.payload,
        enqueue.dedup_key, id, v_body) e;
    arrived := v_first IS NULL;
    IF NOT arrived THEN
        id := v_first;
        same_body := v_first_body = v_body;
    ELSIF enqueue.wake THEN
        PERFORM pg_notify(btrim('{schema}', '"') || '/' || v_service.id, '');
    END IF;
END
$function$;

COMMENT ON FUNCTION {schema}.enqueue(
    text, text, bytea, text, uuid, text, integer, text, text[], text, bytea, interval, uuid, uuid, uuid, boolean
) IS $comment$Enqueues a message in the caller's own transaction: it arrives when the transaction commits, and was
never there when it does not.

    SELECT * FROM {schema}.enqueue('shop', 'shop.place-order', convert_to('{"order": 4711}', 'UTF8'), stream_key => '4711');

service: the service's name. An instance has opened it once, or `whizbang-pg-schema --service` made it known.
type_name: the message's type as the program names it, without its version. Nobody compares it with what there is: a type that
    no instance knows (a slip of the pen) is kept as unroutable, holds up its stream, and becomes a dead letter after the
    service's unroutable_after, 1 day by default.
payload: the message, encoded as content_type says.
stream_key: the stream by its key, as `StreamId::from_key` takes it. Default: no stream, no order.
stream: the stream by its id, in place of stream_key.
kind: 'command' (default) or 'event'.
type_version: the version of the type. Default 1.
content_type: 'json' (default) or 'postcard'.
headers: names and values in turn, as '{tenant, acme}'. Default: none.
traceparent: the trace that this belongs to, as W3C writes it. Default: none.
dedup_key: of the messages with one key the first arrives. A key that an open transaction has used makes whoever brings it
    wait for that transaction's end. Default: none.
due_in: how long the message waits before it is handled. Default: not at all.
message: the message's id. Default: a new one.
correlation: the id of what it all began with. Default: that of this message.
causation: the id of the message that this one follows from. Default: none.
wake: whether the instances are told at once (default), or see the message with their next heartbeat.

`id` is the message's id and `arrived` true; or its key was seen before, then nothing is written, `arrived` is false, `id` is that
of the message that had the key first, and `same_body` says whether their payloads are the same. Whatever cannot be stored is
refused with SQLSTATE 22023, which aborts the transaction as any failed statement does, and has written nothing.$comment$;
