-- What keeps access alive: who saved last, answers that were lost, hints to verify, keys of programs, figures.

-- +goose Up
ALTER TABLE grants
    DROP COLUMN call_sent,                                       -- a lapsed lease always means an unknown outcome: an unsent one is given back
    ADD COLUMN saved_by uuid,                                    -- the lease under which this generation was saved: a save tried again knows itself
    ADD COLUMN lost_generation bigint NOT NULL DEFAULT 0,        -- of this generation an answer was lost: why a refusal may follow
    ADD COLUMN refresh_fixed boolean NOT NULL DEFAULT false;     -- refreshing did not move refresh_expires_at: the merchant must come back by then
-- Only where it threatens somebody: a refresh would otherwise write into one more index each time.
DROP INDEX grants_refresh_expires;
CREATE INDEX grants_refresh_expires ON grants (refresh_expires_at) WHERE refresh_fixed;

-- The calls that may be under way at one provider at once, all processes together: a row each. Claiming a grant takes one, and
-- a process that died gives it back when the lease lapses. The leases' own index is then of no use.
CREATE TABLE slots (
    provider    text NOT NULL,
    environment text NOT NULL,
    n           smallint NOT NULL,
    until       timestamptz NOT NULL,                            -- free from then on
    lease_id    uuid,
    PRIMARY KEY (provider, environment, n)
) WITH (fillfactor = 25);
DROP INDEX grants_leased;

-- The attempts of the last minutes at one provider: what an incident is judged by.
CREATE INDEX events_refresh ON events (provider, at DESC) WHERE kind LIKE 'refresh.%';

-- A webhook's hint that access has ended, to be verified by refreshing at once and after 1, 10 and 60 minutes.
CREATE TABLE verifications (
    connection_id uuid PRIMARY KEY REFERENCES connections ON DELETE CASCADE,
    provider      text NOT NULL,
    environment   text NOT NULL,
    step          integer NOT NULL,                              -- how many refreshes it has caused
    due_at        timestamptz,                                   -- null: all done
    checked_at    timestamptz,                                   -- the latest of them: at most one a minute
    hinted_at     timestamptz NOT NULL
);
CREATE INDEX verifications_due ON verifications (due_at);

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

-- Every token handed out, by key, connection and minute; written every few seconds, never on the read's path.
CREATE TABLE token_reads (
    key_id        uuid NOT NULL,
    minute        timestamptz NOT NULL,
    connection_id uuid NOT NULL,
    reads         bigint NOT NULL,
    PRIMARY KEY (key_id, minute, connection_id)
);
CREATE INDEX token_reads_connection ON token_reads (connection_id, minute DESC);
CREATE INDEX token_reads_minute ON token_reads USING brin (minute);

-- Calls by hour: charts and percentiles never scan events. Bucket n holds what took less than the n-th bound in db/rollups.go.
CREATE TABLE rollups (
    provider    text NOT NULL,
    environment text NOT NULL,
    hour        timestamptz NOT NULL,
    kind        text NOT NULL,                                   -- refresh or connect
    class       text NOT NULL,                                   -- ok, later, trouble, refused, ours, denied, lost
    bucket      smallint NOT NULL,
    calls       bigint NOT NULL,
    PRIMARY KEY (provider, environment, hour, kind, class, bucket)
);
CREATE INDEX rollups_hour ON rollups (hour);

-- +goose Down
DROP TABLE rollups, token_reads, api_keys, verifications, slots;
CREATE INDEX grants_leased ON grants (provider, environment, leased_until) WHERE lease_id IS NOT NULL;
DROP INDEX events_refresh, grants_refresh_expires;
ALTER TABLE grants DROP COLUMN refresh_fixed, DROP COLUMN lost_generation, DROP COLUMN saved_by,
    ADD COLUMN call_sent boolean NOT NULL DEFAULT false;
CREATE INDEX grants_refresh_expires ON grants (refresh_expires_at) WHERE refresh_expires_at IS NOT NULL;
