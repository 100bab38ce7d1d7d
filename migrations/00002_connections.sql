-- Providers, connections, the grants that give access, and the flows by which merchants connect.

-- +goose Up
CREATE TABLE providers (
    name                   text NOT NULL,
    environment            text NOT NULL,
    state_echoed           boolean NOT NULL DEFAULT false,       -- seen once; a callback without state is then rejected
    incident_since         timestamptz,
    incident_by            text NOT NULL DEFAULT '',             -- the admin who declared it; '' when it was detected
    incident_reason        text NOT NULL DEFAULT '',             -- a status.Reason
    incident_ended_at      timestamptz,                          -- of the last one: the refreshes it held back are paced from here
    next_probe             timestamptz,
    paused_until           timestamptz,                          -- after a 429 that spoke for our whole client
    callback_registered_at timestamptz,
    callback_address       text NOT NULL DEFAULT '',
    webhook_registered_at  timestamptz,
    checked_at             timestamptz,                          -- the last live check and its result
    check_result           text NOT NULL DEFAULT '',
    check_millis           integer NOT NULL DEFAULT 0,
    check_skew_millis      integer NOT NULL DEFAULT 0,
    PRIMARY KEY (name, environment)
);

-- How a connection is stands here once for SQL (these functions call nothing but pg_catalog's, so that a dump can be restored); status.Of says the same in Go, and a test runs every combination through both.
-- +goose StatementBegin
-- State is health and problem in one word: 'fine', 'retrying', 'disconnected' or the problem.
CREATE FUNCTION connection_state(problem text, failing_since timestamptz, disconnected_at timestamptz) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN disconnected_at IS NOT NULL THEN 'disconnected'
                WHEN problem <> '' THEN problem
                WHEN failing_since IS NOT NULL THEN 'retrying'
                ELSE 'fine' END
$$;

CREATE FUNCTION connection_health(state text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE WHEN state IN ('fine', 'retrying', 'disconnected') THEN state ELSE 'action-needed' END
$$;

-- Worst health first, within it the latest change first: rank * 10^12 + 10^11 - seconds since 1970.
CREATE FUNCTION connection_health_order(state text, problem_since timestamptz, failing_since timestamptz, disconnected_at timestamptz, connected_at timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE state
        WHEN 'fine' THEN 3100000000000 - extract(epoch FROM connected_at AT TIME ZONE 'UTC')::bigint
        WHEN 'retrying' THEN 2100000000000 - extract(epoch FROM failing_since AT TIME ZONE 'UTC')::bigint
        WHEN 'disconnected' THEN 4100000000000 - extract(epoch FROM disconnected_at AT TIME ZONE 'UTC')::bigint
        ELSE 1100000000000 - extract(epoch FROM coalesce(problem_since, connected_at) AT TIME ZONE 'UTC')::bigint END
$$;
-- +goose StatementEnd

CREATE TABLE connections (
    id              uuid PRIMARY KEY,
    merchant_id     uuid NOT NULL REFERENCES merchants,
    provider        text NOT NULL,
    environment     text NOT NULL,
    account_id      text NOT NULL CHECK (account_id <> ''),
    account_name    text NOT NULL DEFAULT '',
    details         jsonb NOT NULL DEFAULT '[]',                 -- [{"key":…,"value":…}], in the provider's order
    problem         text NOT NULL DEFAULT '',                    -- a status.Problem; '' when there is none
    problem_since   timestamptz,
    failing_since   timestamptz,                                 -- set while refreshes fail. Here and not in grants, so that lists read one table
    connected_by    uuid REFERENCES users,
    connected_at    timestamptz NOT NULL,
    disconnected_at timestamptz,
    used_on         date NOT NULL DEFAULT '1970-01-01',          -- the day of the last use: by day, so that use rarely rewrites indexes
    -- What lists are sorted by.
    merchant_key    text NOT NULL DEFAULT '',                    -- the merchant's name in lower case, up to 200 characters
    account_key     text NOT NULL GENERATED ALWAYS AS (left(lower(coalesce(nullif(account_name, ''), account_id)), 200)) STORED,
    state           text NOT NULL GENERATED ALWAYS AS (connection_state(problem, failing_since, disconnected_at)) STORED,
    health_order    bigint NOT NULL GENERATED ALWAYS AS (
        connection_health_order(connection_state(problem, failing_since, disconnected_at), problem_since, failing_since, disconnected_at, connected_at)) STORED
);
CREATE UNIQUE INDEX connections_account ON connections (merchant_id, provider, environment, account_id)
    WHERE disconnected_at IS NULL;
CREATE INDEX connections_everywhere ON connections (provider, environment, account_id) WHERE disconnected_at IS NULL;
-- Lists walk one of these in its order and look at nothing else. The facets stand in each, so that a filter is judged in the
-- index.
CREATE INDEX connections_merchant ON connections (merchant_id, connected_at, id) INCLUDE (provider, environment, state, used_on);
CREATE INDEX connections_connected ON connections (connected_at, id) INCLUDE (provider, environment, state, used_on);
CREATE INDEX connections_used ON connections (used_on, id) INCLUDE (provider, environment, state, connected_at);
CREATE INDEX connections_account_key ON connections (account_key, id) INCLUDE (provider, environment, state, connected_at, used_on);
CREATE INDEX connections_merchant_key ON connections (merchant_key, id) INCLUDE (provider, environment, state, connected_at, used_on);
CREATE INDEX connections_health ON connections (health_order, id) INCLUDE (provider, environment, state, connected_at, used_on);
CREATE INDEX connections_facets ON connections (provider, environment, state, connected_at, id) INCLUDE (used_on);
CREATE INDEX connections_facet_account ON connections (provider, environment, state, account_key, id) INCLUDE (connected_at, used_on);
-- What a search that has found documents must know of their connections.
CREATE INDEX connections_states ON connections (id) INCLUDE (state, used_on, health_order);

-- How many connections are in which health, as differences: every statement that changes some adds rows, and upkeep folds
-- them into one each. No writer waits for a row that all others count in, and no change can forget to count. In Go:
-- db.DB.Counts reads and db.DB.FoldCounts folds.
CREATE TABLE connection_counts (
    provider    text NOT NULL,
    environment text NOT NULL,
    health      text NOT NULL,
    delta       bigint NOT NULL
);

-- +goose StatementBegin
CREATE FUNCTION connections_count_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO connection_counts (provider, environment, health, delta)
    SELECT provider, environment, connection_health(state), count(*)
    FROM after_rows GROUP BY 1, 2, 3;
    RETURN NULL;
END $$;

CREATE FUNCTION connections_count_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO connection_counts (provider, environment, health, delta)
    SELECT provider, environment, health, sum(n) FROM (
        SELECT provider, environment, connection_health(state) AS health, 1 AS n FROM after_rows
        UNION ALL
        SELECT provider, environment, connection_health(state), -1 FROM before_rows
    ) AS changes GROUP BY 1, 2, 3 HAVING sum(n) <> 0;
    RETURN NULL;
END $$;

CREATE FUNCTION connections_count_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO connection_counts (provider, environment, health, delta)
    SELECT provider, environment, connection_health(state), -count(*)
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

CREATE TABLE flows (
    id            uuid PRIMARY KEY,
    reference     text NOT NULL UNIQUE,                          -- for people: K7M2-4QXD
    state_hash    bytea NOT NULL UNIQUE,
    browser_hash  bytea NOT NULL,
    user_id       uuid NOT NULL REFERENCES users,
    merchant_id   uuid NOT NULL REFERENCES merchants,
    provider      text NOT NULL,
    environment   text NOT NULL,
    connection_id uuid REFERENCES connections,                   -- of a reconnect: the flow is pinned to it
    stage         text NOT NULL CHECK (stage IN ('begun', 'answered', 'exchanging', 'choosing', 'connected', 'denied', 'expired', 'failed')),
    answer_hash   bytea,                                         -- SHA-256 of the code that came back: seen again, it replays this flow
    sealed        bytea,                                         -- the PKCE verifier; then the callback's answer; then the grant
    account_id    text NOT NULL DEFAULT '',                      -- the account that waits for a choice, or was connected
    account_name  text NOT NULL DEFAULT '',
    outcome       text NOT NULL DEFAULT '',                      -- a code: why it ended as it did
    result_id     uuid REFERENCES connections,                   -- the connection that it made or renewed
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

-- The short lock of a revocation that ends a whole account's access: connecting the account waits for it, and a grant that
-- was obtained before it ended is presumed dead.
CREATE TABLE revocations (
    provider    text NOT NULL,
    environment text NOT NULL,
    account_id  text NOT NULL,
    until       timestamptz NOT NULL,                            -- the call is over by then, whatever became of it
    PRIMARY KEY (provider, environment, account_id)
);

-- +goose Down
DROP TABLE revocations, flows, connection_counts, connections, providers;
DROP FUNCTION connections_count_inserted, connections_count_updated, connections_count_deleted, 
    connection_health_order(text, timestamptz, timestamptz, timestamptz, timestamptz), connection_health(text), connection_state(text, timestamptz, timestamptz);
