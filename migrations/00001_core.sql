-- Merchants, their people, attempts to connect, connections and what keeps them alive.
-- Ids are UUIDv7 made in Go, because ciphertexts are bound to them before the row exists. All times are UTC.

-- +goose Up
CREATE EXTENSION IF NOT EXISTS pg_trgm;

CREATE TABLE merchants (
    id          uuid PRIMARY KEY,
    external_id text UNIQUE CHECK (external_id <> ''),          -- the platform's own name for it
    name        text NOT NULL CHECK (name <> ''),
    locale      text NOT NULL DEFAULT 'en',
    created_at  timestamptz NOT NULL
);
CREATE INDEX merchants_name ON merchants (lower(name), id);
CREATE INDEX merchants_search ON merchants USING gin (lower(name || ' ' || coalesce(external_id, '')) gin_trgm_ops);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    merchant_id   uuid REFERENCES merchants,                     -- null for staff
    role          text NOT NULL CHECK (role IN ('merchant', 'support', 'admin')),
    email         text NOT NULL,
    name          text NOT NULL DEFAULT '',
    password_hash text NOT NULL DEFAULT '',                      -- argon2id; empty until an invitation is accepted
    locale        text NOT NULL DEFAULT '',                      -- empty: as the browser asks
    locked_at     timestamptz,
    created_at    timestamptz NOT NULL,
    CHECK ((role = 'merchant') = (merchant_id IS NOT NULL))
);
CREATE UNIQUE INDEX users_email ON users (lower(email));
CREATE INDEX users_merchant ON users (merchant_id);
CREATE INDEX users_search ON users USING gin (lower(email || ' ' || name) gin_trgm_ops);

CREATE TABLE sessions (
    id_hash    bytea PRIMARY KEY,                                -- SHA-256 of the id in the cookie
    user_id    uuid NOT NULL REFERENCES users,
    created_at timestamptz NOT NULL,
    seen_at    timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    address    text NOT NULL DEFAULT '',
    agent      text NOT NULL DEFAULT ''
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expires ON sessions (expires_at);

-- Links that are sent to people: opened by GET, spent by POST, known here only by hash.
CREATE TABLE links (
    id            uuid PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('invitation', 'password', 'reconnect')),
    secret_hash   bytea NOT NULL UNIQUE,
    user_id       uuid REFERENCES users,                         -- whom it is for
    connection_id uuid,                                          -- reconnect: which connection
    created_by    uuid REFERENCES users,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    spent_at      timestamptz
);
CREATE INDEX links_user ON links (user_id, kind);
CREATE INDEX links_expires ON links (expires_at);

-- Throttling by GCRA: one upsert a decision. Nothing here is worth keeping through a crash.
CREATE UNLOGGED TABLE limits (
    key  bytea PRIMARY KEY,                                      -- SHA-256 of what is limited
    tat  timestamptz NOT NULL                                    -- theoretical arrival time
);

CREATE TABLE providers (
    name           text NOT NULL,
    environment    text NOT NULL,
    state_echoed   boolean NOT NULL DEFAULT false,               -- once seen, a callback without state is refused
    incident_since timestamptz,
    incident_by    text NOT NULL DEFAULT '',                     -- '' when found by the sweep, else who declared it
    reason         text NOT NULL DEFAULT '',                     -- 'trouble', 'ours' or 'declared'
    next_probe     timestamptz,
    paused_until   timestamptz,                                  -- a 429 that spoke for the whole client
    drained_at     timestamptz,                                  -- the last incident's end: recovery is paced from here
    callback_registered_at timestamptz,
    callback_address       text NOT NULL DEFAULT '',
    hook_registered_at     timestamptz,
    checked_at     timestamptz,                                  -- the last live check and what it found
    check_result   text NOT NULL DEFAULT '',
    check_millis   integer NOT NULL DEFAULT 0,
    check_skew_millis integer NOT NULL DEFAULT 0,
    PRIMARY KEY (name, environment)
);

CREATE TABLE connections (
    id              uuid PRIMARY KEY,
    merchant_id     uuid NOT NULL REFERENCES merchants,
    provider        text NOT NULL,
    environment     text NOT NULL,
    account_id      text NOT NULL CHECK (account_id <> ''),
    account_name    text NOT NULL DEFAULT '',
    details         jsonb NOT NULL DEFAULT '[]',                 -- [{"key":…,"value":…}], in the provider's order
    search          text NOT NULL DEFAULT '',                    -- lower-case words of account and details
    problem         text NOT NULL DEFAULT '',                    -- what someone must put right; '' when nothing
    problem_since   timestamptz,
    failing_since   timestamptz,                                 -- set while renewing fails; kept here, not in grants, so that lists read one table
    connected_by    uuid REFERENCES users,
    connected_at    timestamptz NOT NULL,
    disconnected_at timestamptz
);
CREATE UNIQUE INDEX connections_account ON connections (merchant_id, provider, environment, account_id)
    WHERE disconnected_at IS NULL;
CREATE INDEX connections_everywhere ON connections (provider, environment, account_id) WHERE disconnected_at IS NULL;
CREATE INDEX connections_merchant ON connections (merchant_id, connected_at DESC, id DESC);
CREATE INDEX connections_connected ON connections (connected_at DESC, id DESC);
CREATE INDEX connections_provider ON connections (provider, connected_at DESC, id DESC);
CREATE INDEX connections_problem ON connections (problem, connected_at DESC, id DESC) WHERE problem <> '' AND disconnected_at IS NULL;
CREATE INDEX connections_failing ON connections (connected_at DESC, id DESC) WHERE failing_since IS NOT NULL AND disconnected_at IS NULL;
CREATE INDEX connections_search ON connections USING gin (search gin_trgm_ops);

CREATE TABLE flows (
    id            uuid PRIMARY KEY,
    reference     text NOT NULL UNIQUE,                          -- for people: K7M2-4QXD
    state_hash    bytea NOT NULL UNIQUE,
    browser_hash  bytea NOT NULL,
    user_id       uuid NOT NULL REFERENCES users,
    merchant_id   uuid NOT NULL REFERENCES merchants,
    provider      text NOT NULL,
    environment   text NOT NULL,
    connection_id uuid REFERENCES connections,                   -- when reconnecting: pinned to it
    stage         text NOT NULL CHECK (stage IN ('begun', 'answered', 'exchanging', 'choosing', 'connected', 'denied', 'expired', 'failed')),
    answer_hash   bytea,
    sealed        bytea,                                         -- verifier; then the answer; then the grant
    account_id    text NOT NULL DEFAULT '',                      -- whose access waits for a choice, or was connected
    account_name  text NOT NULL DEFAULT '',
    outcome       text NOT NULL DEFAULT '',                      -- a code: why it ended as it did
    result_id     uuid REFERENCES connections,                   -- the connection it made or renewed
    created_at    timestamptz NOT NULL,
    touched_at    timestamptz NOT NULL,                          -- when the stage last changed
    expires_at    timestamptz NOT NULL,
    CHECK (sealed IS NULL OR stage IN ('begun', 'answered', 'exchanging', 'choosing'))
);
CREATE UNIQUE INDEX flows_answer ON flows (provider, answer_hash) WHERE answer_hash IS NOT NULL;
CREATE INDEX flows_merchant ON flows (merchant_id, created_at DESC);
CREATE INDEX flows_connection ON flows (result_id, created_at DESC);
CREATE INDEX flows_open ON flows (expires_at) WHERE sealed IS NOT NULL;
CREATE INDEX flows_choosing ON flows (provider, environment, account_id) WHERE stage = 'choosing';
CREATE INDEX flows_created ON flows (created_at);

-- The short lock of a revocation that ends a whole account's access: connecting the account waits for it, and a grant
-- that was obtained before it ended is presumed dead.
CREATE TABLE revocations (
    provider    text NOT NULL,
    environment text NOT NULL,
    account_id  text NOT NULL,
    until       timestamptz NOT NULL,                            -- the call is over by then, whatever became of it
    PRIMARY KEY (provider, environment, account_id)
);

CREATE TABLE grants (
    connection_id      uuid PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
    provider           text NOT NULL,
    environment        text NOT NULL,
    sealed             bytea,                                    -- null once disconnected
    spare              bytea,                                    -- a good answer that came after another: tried before a refusal is believed
    spare_generation   bigint NOT NULL DEFAULT 0,
    generation         bigint NOT NULL DEFAULT 1,                -- rises with each saved answer
    epoch              bigint NOT NULL DEFAULT 1,                -- rises on reconnect, replace and disconnect
    attempt            bigint NOT NULL DEFAULT 0,                -- rises with each outcome, good or bad
    lease_id           uuid,
    leased_until       timestamptz,
    call_sent          boolean NOT NULL DEFAULT false,           -- of the present lease: the outcome is unknown if it lapses
    lifetime_seconds   bigint NOT NULL DEFAULT 0,
    expires_at         timestamptz,
    refresh_expires_at timestamptz,
    refresh_at         timestamptz,                              -- when the sweep takes it next; null: never
    failures           integer NOT NULL DEFAULT 0,
    last_class         text NOT NULL DEFAULT '',                 -- of the last attempt: ok, later, trouble, refused, ours, lost
    last_code          text NOT NULL DEFAULT '',
    refreshed_at       timestamptz,
    used_at            timestamptz,
    used_by            uuid                                      -- the API key that last asked for it
) WITH (fillfactor = 70);
CREATE INDEX grants_due ON grants (provider, environment, refresh_at) WHERE refresh_at IS NOT NULL;
CREATE INDEX grants_leased ON grants (provider, environment, leased_until) WHERE lease_id IS NOT NULL;
CREATE INDEX grants_refresh_expires ON grants (refresh_expires_at) WHERE refresh_expires_at IS NOT NULL;

-- One sealed word, so that a wrong keyset is found at the start and not at midnight.
CREATE TABLE keyset_check (
    id     boolean PRIMARY KEY DEFAULT true CHECK (id),
    sealed bytea NOT NULL
);

-- Who did what, to what, when, from where. Append-only; a month is a partition and is dropped whole.
CREATE TABLE events (
    id            uuid NOT NULL,
    at            timestamptz NOT NULL,
    kind          text NOT NULL,                                 -- connection.connected, refresh.saved, user.signed-in …
    actor         text NOT NULL DEFAULT 'system',                -- system, provider, key, merchant, support, admin
    actor_id      uuid,                                          -- the user or key
    merchant_id   uuid,
    connection_id uuid,
    flow_id       uuid,
    provider      text NOT NULL DEFAULT '',
    class         text NOT NULL DEFAULT '',                      -- a call's: ok, refused, ours, later, trouble, lost
    status        integer NOT NULL DEFAULT 0,                    -- HTTP status of the provider's answer
    code          text NOT NULL DEFAULT '',                      -- the provider's error code, or the outcome's
    millis        integer NOT NULL DEFAULT 0,
    reference     text NOT NULL DEFAULT '',                      -- x-reference-id we sent, or the flow's reference
    address       text NOT NULL DEFAULT '',                      -- the person's network address
    note          text NOT NULL DEFAULT '',
    PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE INDEX events_at ON events (at DESC, id DESC);
CREATE INDEX events_connection ON events (connection_id, at DESC, id DESC) WHERE connection_id IS NOT NULL;
CREATE INDEX events_merchant ON events (merchant_id, at DESC, id DESC) WHERE merchant_id IS NOT NULL AND kind NOT LIKE 'refresh.%';
CREATE INDEX events_actor ON events (actor_id, at DESC, id DESC) WHERE actor_id IS NOT NULL;
CREATE INDEX events_kind ON events (kind, at DESC, id DESC) WHERE kind NOT LIKE 'refresh.%';

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

-- The owner's rights, because the serving role may not own the tables.
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

-- How many connections are in which health. Each statement that changes some adds differences, and upkeep folds them:
-- nobody waits for a row that everybody counts in, and no change can forget to count.
CREATE TABLE counters (
    provider    text NOT NULL,
    environment text NOT NULL,
    health      text NOT NULL,
    difference  bigint NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION connection_health(problem text, failing_since timestamptz, disconnected_at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN disconnected_at IS NOT NULL THEN 'disconnected'
                WHEN problem <> '' THEN 'action-needed'
                WHEN failing_since IS NOT NULL THEN 'retrying'
                ELSE 'fine' END
$$;

CREATE FUNCTION connections_count_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counters (provider, environment, health, difference)
    SELECT provider, environment, connection_health(problem, failing_since, disconnected_at), count(*)
    FROM after_rows GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;

CREATE FUNCTION connections_count_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counters (provider, environment, health, difference)
    SELECT provider, environment, health, sum(n) FROM (
        SELECT provider, environment, connection_health(problem, failing_since, disconnected_at) AS health, 1 AS n FROM after_rows
        UNION ALL
        SELECT provider, environment, connection_health(problem, failing_since, disconnected_at), -1 FROM before_rows
    ) AS changes GROUP BY 1, 2, 3 HAVING sum(n) <> 0;
    RETURN NULL;
END $$;

CREATE FUNCTION connections_count_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO counters (provider, environment, health, difference)
    SELECT provider, environment, connection_health(problem, failing_since, disconnected_at), -count(*)
    FROM before_rows GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER connections_count_inserted AFTER INSERT ON connections
    REFERENCING NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION connections_count_inserted();
CREATE TRIGGER connections_count_updated AFTER UPDATE ON connections
    REFERENCING OLD TABLE AS before_rows NEW TABLE AS after_rows FOR EACH STATEMENT EXECUTE FUNCTION connections_count_updated();
CREATE TRIGGER connections_count_deleted AFTER DELETE ON connections
    REFERENCING OLD TABLE AS before_rows FOR EACH STATEMENT EXECUTE FUNCTION connections_count_deleted();

-- +goose Down
DROP TABLE counters, events, keyset_check, grants, revocations, flows, connections, providers, limits, links, sessions, users, merchants CASCADE;
DROP FUNCTION connections_count_inserted, connections_count_updated, connections_count_deleted, connection_health(text, timestamptz, timestamptz),
    events_make_month(date), events_drop_before(date), events_refuse_change;
