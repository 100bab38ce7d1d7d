-- Webhooks to the platform: where they go, what happened, and how each was taken.

-- +goose Up
SET LOCAL lock_timeout = '5s';

CREATE TABLE webhook_endpoints (
    id            uuid PRIMARY KEY,
    url           text NOT NULL,                                 -- for people: what is called is sealed beside the secret
    types         text[] NOT NULL DEFAULT '{}',                  -- the types of events that it takes; none: all
    sealed        bytea NOT NULL,                                -- the address and the secrets
    created_at    timestamptz NOT NULL,
    delivered_at  timestamptz,                                   -- the latest delivery, to the minute
    failing_since timestamptz,                                   -- since when nothing but failure came back
    failed_at     timestamptz,                                   -- the latest failure and what it was, as in deliveries
    failed_status integer NOT NULL DEFAULT 0,
    failed_reason text NOT NULL DEFAULT '',
    off_at        timestamptz,                                   -- switched off: nothing is sent by itself
    off_reason    text NOT NULL DEFAULT '' CHECK (off_reason IN ('', 'gone', 'failing', 'admin'))
);

-- What happened, for at least as long as it may have to be sent. It holds ids; names are read when it is sent.
CREATE TABLE webhook_events (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    at            timestamptz NOT NULL,
    type          text NOT NULL,
    merchant_id   uuid,
    connection_id uuid,
    sequence      bigint NOT NULL DEFAULT 0,                     -- of the connection's events
    data          jsonb NOT NULL,                                -- of a connection: its state when it happened
    made_by       xid8 NOT NULL DEFAULT pg_current_xact_id()     -- the transaction
);
CREATE INDEX webhook_events_at ON webhook_events (at);
CREATE INDEX webhook_events_connection ON webhook_events (connection_id, made_by);

-- One event for one endpoint. No foreign key to endpoints: a writer would wait for, or fail with, the end of one.
CREATE TABLE webhook_deliveries (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    event_id    uuid NOT NULL REFERENCES webhook_events ON DELETE CASCADE,
    endpoint_id uuid NOT NULL,
    created_at  timestamptz NOT NULL,
    state       text NOT NULL CHECK (state IN ('waiting', 'delivered', 'failed')),
    due_at      timestamptz NOT NULL DEFAULT '-infinity',        -- of the next try, while it waits
    tries       integer NOT NULL DEFAULT 0,                      -- since it was last to be sent at once
    tried_at    timestamptz,                                     -- the latest try and how it ended
    status      integer NOT NULL DEFAULT 0,                      -- HTTP status of the answer; 0 when none came
    reason      text NOT NULL DEFAULT '',                        -- why no answer came, or why nothing was sent
    millis      integer NOT NULL DEFAULT 0,
    UNIQUE (event_id, endpoint_id)
) WITH (fillfactor = 80);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, due_at, created_at) WHERE state = 'waiting';
CREATE INDEX webhook_deliveries_failed ON webhook_deliveries (endpoint_id, created_at DESC, id DESC) WHERE state = 'failed';
CREATE INDEX webhook_deliveries_endpoint ON webhook_deliveries (endpoint_id, created_at DESC, id DESC);
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (created_at DESC, id DESC);

CREATE TABLE webhook_sequences (
    connection_id uuid PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
    latest        bigint NOT NULL
) WITH (fillfactor = 80);

-- Which connections were announced to expire, and so many days before.
CREATE TABLE webhook_reminders (
    connection_id uuid NOT NULL REFERENCES connections ON DELETE CASCADE,
    days          smallint NOT NULL,
    about         timestamptz NOT NULL,                          -- when access ends
    PRIMARY KEY (connection_id, days)
);

-- +goose StatementBegin
-- Adds an event, and a delivery of it to every endpoint that takes its type. Without an endpoint it adds nothing. One that is switched off
-- has its delivery as failed, to be sent again if an admin asks for it.
CREATE FUNCTION webhook_add(kind text, happened timestamptz, merchant uuid, connection uuid, what jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    number bigint := 0;
    event  uuid;
BEGIN
    IF NOT EXISTS (SELECT FROM webhook_endpoints) THEN
        RETURN;
    END IF;
    IF connection IS NOT NULL THEN
        INSERT INTO webhook_sequences AS s (connection_id, latest) VALUES (connection, 1)
            ON CONFLICT (connection_id) DO UPDATE SET latest = s.latest + 1 RETURNING latest INTO number;
    END IF;
    INSERT INTO webhook_events (at, type, merchant_id, connection_id, sequence, data)
        VALUES (happened, kind, merchant, connection, number, what) RETURNING id INTO event;
    INSERT INTO webhook_deliveries (event_id, endpoint_id, created_at, state, reason)
        SELECT event, id, happened, CASE WHEN off_at IS NULL THEN 'waiting' ELSE 'failed' END, CASE WHEN off_at IS NULL THEN '' ELSE 'off' END
        FROM webhook_endpoints WHERE types = '{}' OR kind = ANY (types);
END $$;

-- What status.Of needs of a connection.
CREATE FUNCTION webhook_state(c connections) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('problem', c.problem, 'problem_since', c.problem_since, 'failing_since', c.failing_since, 'disconnected_at', c.disconnected_at)
$$;

-- A problem that came, changed or went. Whoever writes it, the event is written with it.
CREATE FUNCTION webhook_on_problem() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM webhook_add(CASE WHEN NEW.problem = '' THEN 'connection.recovered' ELSE 'connection.action_needed' END,
        coalesce(NEW.problem_since, now()), NEW.merchant_id, NEW.id, webhook_state(NEW));
    RETURN NULL;
END $$;

-- What an event of the audit trail tells the platform.
CREATE FUNCTION webhook_on_event() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    what jsonb;
    kind text := CASE NEW.kind WHEN 'connection.added' THEN 'connection.connected' WHEN 'connection.replaced' THEN 'connection.reconnected' ELSE NEW.kind END;
BEGIN
    IF NEW.kind LIKE 'connection.%' THEN
        -- A problem that a reconnect ended is not told twice.
        DELETE FROM webhook_events
            WHERE kind = 'connection.reconnected' AND connection_id = NEW.connection_id AND made_by = pg_current_xact_id() AND type = 'connection.recovered';
        SELECT webhook_state(c) INTO what FROM connections c WHERE id = NEW.connection_id;
    ELSIF NEW.kind LIKE 'incident.%' THEN
        what := jsonb_build_object('provider', NEW.provider, 'environment', NEW.note);
        IF NEW.kind = 'incident.opened' THEN
            what := what || jsonb_build_object('reason', NEW.code);
        END IF;
    ELSE
        what := jsonb_build_object('merchant', jsonb_build_object('id', NEW.merchant_id,
            'external_id', coalesce(nullif(NEW.reference, ''), (SELECT external_id FROM merchants WHERE id = NEW.merchant_id), '')));
    END IF;
    PERFORM webhook_add(kind, NEW.at, NEW.merchant_id, CASE WHEN NEW.kind LIKE 'connection.%' THEN NEW.connection_id END, coalesce(what, '{}'));
    RETURN NULL;
END $$;
-- +goose StatementEnd

CREATE TRIGGER connections_webhook AFTER UPDATE ON connections FOR EACH ROW
    WHEN (OLD.problem <> NEW.problem AND NEW.disconnected_at IS NULL)
    EXECUTE FUNCTION webhook_on_problem();
CREATE TRIGGER events_webhook AFTER INSERT ON events FOR EACH ROW
    WHEN (NEW.kind IN ('connection.added', 'connection.connected', 'connection.reconnected', 'connection.replaced', 'connection.disconnected',
        'incident.opened', 'incident.ended', 'merchant.erased'))
    EXECUTE FUNCTION webhook_on_event();

-- +goose Down
DROP TRIGGER events_webhook ON events;
DROP TRIGGER connections_webhook ON connections;
DROP FUNCTION webhook_on_event, webhook_on_problem, webhook_state(connections), webhook_add(text, timestamptz, uuid, uuid, jsonb);
DROP TABLE webhook_reminders, webhook_sequences, webhook_deliveries, webhook_events, webhook_endpoints;
