-- Merchants, their people and the platform's programs.
-- Ids are UUIDv7 made in Go, because ciphertexts are bound to them before the row exists. All times are UTC.

-- +goose Up
CREATE EXTENSION IF NOT EXISTS pg_trgm;

-- +goose StatementBegin
-- One spelling for what is searched and for what is typed: lower case, no accents, Khmer digits as Latin ones, without
-- joiners and without the Khmer signs that Postgres does not take for letters (they would cut words into pieces too short
-- to index, and people often leave them out).
CREATE FUNCTION search_fold(words text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT translate(lower(regexp_replace(normalize(words, NFKD), U&'[\0300-\036F\17B4\17B5\17C9-\17D3\17DD\200B-\200F\2060\FEFF]', '', 'g')),
        '០១២៣៤៥៦៧៨៩', '0123456789')
$$;
-- +goose StatementEnd

CREATE TABLE merchants (
    id          uuid PRIMARY KEY,
    external_id text UNIQUE CHECK (external_id <> ''),           -- the platform's own id for it
    name        text NOT NULL CHECK (name <> ''),
    locale      text NOT NULL DEFAULT 'en',
    created_at  timestamptz NOT NULL,
    words       text NOT NULL GENERATED ALWAYS AS (search_fold(name || ' ' || coalesce(external_id, ''))) STORED
);
CREATE INDEX merchants_name ON merchants (lower(name), id);
CREATE INDEX merchants_words ON merchants USING gin (words gin_trgm_ops);

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    merchant_id   uuid REFERENCES merchants,                     -- null for staff
    role          text NOT NULL CHECK (role IN ('merchant', 'support', 'admin')),
    email         text NOT NULL,
    name          text NOT NULL DEFAULT '',
    password_hash text NOT NULL DEFAULT '',                      -- argon2id; empty until an invitation is accepted
    locale        text NOT NULL DEFAULT '',                      -- empty: as the browser asks
    locked_at     timestamptz,
    seen_at       timestamptz,                                   -- outlives the session
    created_at    timestamptz NOT NULL,
    words         text NOT NULL GENERATED ALWAYS AS (search_fold(email || ' ' || name)) STORED,
    CHECK ((role = 'merchant') = (merchant_id IS NOT NULL))
);
CREATE UNIQUE INDEX users_email ON users (lower(email));
CREATE INDEX users_merchant ON users (merchant_id);
CREATE INDEX users_words ON users USING gin (words gin_trgm_ops);

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

-- Links sent to people: opened by GET, spent by POST, stored by hash only.
CREATE TABLE links (
    id            uuid PRIMARY KEY,
    kind          text NOT NULL CHECK (kind IN ('invitation', 'password', 'reconnect')),
    secret_hash   bytea NOT NULL UNIQUE,
    user_id       uuid REFERENCES users,                         -- the recipient
    connection_id uuid,                                          -- of a reconnect link
    created_by    uuid REFERENCES users,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    spent_at      timestamptz
);
CREATE INDEX links_user ON links (user_id, kind);
CREATE INDEX links_expires ON links (expires_at);

-- Rate limits by GCRA, one upsert a decision. Unlogged: a crash may forget them.
CREATE UNLOGGED TABLE rate_limits (
    key        bytea PRIMARY KEY,                                -- SHA-256 of the limit's name
    arrival_at timestamptz NOT NULL                              -- the theoretical arrival time
);

CREATE TABLE api_keys (
    id           uuid PRIMARY KEY,
    prefix       text NOT NULL,                                  -- its first letters, to tell keys apart
    hash         bytea NOT NULL UNIQUE,                          -- SHA-256 of the whole key
    name         text NOT NULL CHECK (name <> ''),
    merchant_id  uuid REFERENCES merchants,                      -- null: all merchants
    scopes       text[] NOT NULL,
    created_by   uuid REFERENCES users,                          -- null: made on the command line
    created_at   timestamptz NOT NULL,
    last_used_at timestamptz,
    revoked_at   timestamptz
);
CREATE INDEX api_keys_merchant ON api_keys (merchant_id);

-- Every token handed out, by key, connection and minute. Written every few seconds, not by the read itself.
CREATE TABLE token_reads (
    key_id        uuid NOT NULL,
    minute        timestamptz NOT NULL,
    connection_id uuid NOT NULL,
    reads         bigint NOT NULL,
    PRIMARY KEY (key_id, minute, connection_id)
);
CREATE INDEX token_reads_connection ON token_reads (connection_id, minute DESC);
CREATE INDEX token_reads_minute ON token_reads USING brin (minute);

-- The same by key and day, for the list of keys: a large platform has millions of rows a day in token_reads.
CREATE TABLE api_key_daily_reads (
    key_id uuid NOT NULL,
    day    date NOT NULL,                                        -- of UTC
    reads  bigint NOT NULL,
    PRIMARY KEY (key_id, day)
);

-- Settings that admins change while the program runs.
CREATE TABLE settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);

-- One sealed word, so that a wrong keyset is found at the start.
CREATE TABLE keyset_check (
    id     boolean PRIMARY KEY DEFAULT true CHECK (id),
    sealed bytea NOT NULL
);

-- +goose Down
DROP TABLE keyset_check, settings, api_key_daily_reads, token_reads, api_keys, rate_limits, links, sessions, users, merchants;
DROP FUNCTION search_fold(text);
