-- Work that is done later: mail to people, and refreshes of many connections.

-- +goose Up

-- Which user was mailed about what on a connection: once for each problem, and once when it is over.
CREATE TABLE warnings (
    connection_id uuid NOT NULL REFERENCES connections ON DELETE CASCADE,
    user_id       uuid NOT NULL REFERENCES users,
    kind          text NOT NULL CHECK (kind IN ('action-needed', 'reconnect-by')),
    about         timestamptz NOT NULL,                          -- since when the problem is, or until when to reconnect
    warned_at     timestamptz NOT NULL,
    PRIMARY KEY (connection_id, user_id, kind)
);
CREATE INDEX warnings_user ON warnings (user_id);

-- Mail that is kept instead of sent: the outbox of the demo and of tests. Sealed, because mail holds links.
CREATE TABLE outbox (
    id        uuid PRIMARY KEY,
    at        timestamptz NOT NULL,
    recipient text NOT NULL,
    subject   text NOT NULL,
    sealed    bytea NOT NULL
);
CREATE INDEX outbox_at ON outbox (at DESC, id DESC);

-- Refreshes of many connections: first a dry run, then at a pace that spares the provider, until done or stopped.
CREATE TABLE bulks (
    id           uuid PRIMARY KEY,
    filter       jsonb NOT NULL CHECK (filter ? 'connections' OR filter ? 'events'),
    state        text NOT NULL CHECK (state IN ('gathering', 'dry-run', 'running', 'stopping', 'stopped', 'done')),
    created_by   uuid NOT NULL REFERENCES users,
    created_at   timestamptz NOT NULL,
    ended_at     timestamptz,
    cursor       text NOT NULL DEFAULT '',                       -- how far the filter's connections have been gathered
    lease_owner  uuid,                                           -- the job that works on it
    leased_until timestamptz                                     -- another job may take over afterwards
);
CREATE INDEX bulks_created ON bulks (created_at DESC);
CREATE TABLE bulk_items (
    bulk_id       uuid NOT NULL REFERENCES bulks ON DELETE CASCADE,
    connection_id uuid NOT NULL REFERENCES connections ON DELETE CASCADE,
    provider      text NOT NULL,
    outcome       text NOT NULL DEFAULT '',                      -- '' while it waits; else a status.Outcome
    ended_at      timestamptz,
    PRIMARY KEY (bulk_id, connection_id)
);
CREATE INDEX bulk_items_waiting ON bulk_items (bulk_id, provider, connection_id) WHERE outcome = '';

-- +goose Down
DROP TABLE bulk_items, bulks, outbox, warnings;
