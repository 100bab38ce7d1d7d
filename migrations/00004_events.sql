-- Who did what, to what, when, from where. Append-only; a month is a partition and is dropped whole.

-- +goose Up
CREATE TABLE events (
    id            uuid NOT NULL,
    at            timestamptz NOT NULL,
    kind          text NOT NULL,                                 -- a status.Kind
    actor         text NOT NULL DEFAULT 'system',                -- system, provider, key, merchant, support, admin
    actor_id      uuid,                                          -- the user or API key
    merchant_id   uuid,
    connection_id uuid,
    flow_id       uuid,
    provider      text NOT NULL DEFAULT '',
    outcome       text NOT NULL DEFAULT '',                      -- of a call: a status.Outcome
    status        integer NOT NULL DEFAULT 0,                    -- HTTP status of the provider's answer
    code          text NOT NULL DEFAULT '',                      -- the provider's error code, or why a flow ended
    millis        integer NOT NULL DEFAULT 0,                    -- how long the call took
    reference     text NOT NULL DEFAULT '',                      -- the x-reference-id sent, or the flow's reference
    address       text NOT NULL DEFAULT '',                      -- the person's network address
    note          text NOT NULL DEFAULT '',
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX events_at ON events (at DESC, id DESC);
CREATE INDEX events_connection ON events (connection_id, at DESC, id DESC) WHERE connection_id IS NOT NULL;
CREATE INDEX events_merchant ON events (merchant_id, at DESC, id DESC) WHERE merchant_id IS NOT NULL AND kind NOT LIKE 'refresh.%';
CREATE INDEX events_actor ON events (actor_id, at DESC, id DESC) WHERE actor_id IS NOT NULL;
CREATE INDEX events_flow ON events (flow_id, at DESC, id DESC) WHERE flow_id IS NOT NULL;
CREATE INDEX events_kind ON events (kind, at DESC, id DESC) WHERE kind NOT LIKE 'refresh.%';
-- What people and programs did, without the refreshes in between.
CREATE INDEX events_people ON events (at DESC, id DESC) WHERE kind NOT LIKE 'refresh.%';
-- Calls that did not go well: few among many.
CREATE INDEX events_trouble ON events (outcome, at DESC, id DESC) WHERE outcome NOT IN ('', 'ok');
-- The attempts of the last minutes at one provider, by which incidents are detected.
CREATE INDEX events_refresh ON events (provider, at DESC) WHERE kind LIKE 'refresh.%';

-- +goose StatementBegin
CREATE FUNCTION events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are append-only' USING ERRCODE = 'insufficient_privilege';
END $$;
-- +goose StatementEnd
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION events_refuse_change();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_refuse_change();

-- These two run with the owner's rights, because the serving role may not own the tables.
-- +goose StatementBegin
CREATE FUNCTION events_make_month(month date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    first date := date_trunc('month', month)::date;
    part  text := 'events_' || to_char(first, 'YYYY_MM');
BEGIN
    IF to_regclass('public.' || part) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF events FOR VALUES FROM (%L) TO (%L)',
        part, first::text || ' 00:00:00+00', (first + interval '1 month')::date::text || ' 00:00:00+00');
    EXECUTE format('CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION events_refuse_change()', part);
EXCEPTION WHEN duplicate_table THEN
    NULL;                                                        -- another process made it first
END $$;

CREATE FUNCTION events_drop_before(month date) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    part    text;
    dropped integer := 0;
BEGIN
    FOR part IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.events'::regclass
          AND c.relname < 'events_' || to_char(date_trunc('month', month), 'YYYY_MM')
    LOOP
        EXECUTE format('DROP TABLE %I', part);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END $$;
-- +goose StatementEnd
SELECT events_make_month((now() + make_interval(months => m))::date) FROM generate_series(-1, 3) AS m;

-- +goose Down
DROP TABLE events CASCADE;
DROP FUNCTION events_make_month(date), events_drop_before(date), events_refuse_change;
