-- What people are written, and when they were last here.

-- +goose Up
ALTER TABLE users ADD COLUMN seen_at timestamptz;                -- outlives the session

-- Who was warned of what on a connection: once for each problem, and told when it is over.
CREATE TABLE warnings (
    connection_id uuid NOT NULL REFERENCES connections ON DELETE CASCADE,
    user_id       uuid NOT NULL REFERENCES users,
    kind          text NOT NULL CHECK (kind IN ('action-needed', 'reconnect-by')),
    about         timestamptz NOT NULL,                          -- since when the problem is, or until when to reconnect
    warned_at     timestamptz NOT NULL,
    PRIMARY KEY (connection_id, user_id, kind)
);
CREATE INDEX warnings_user ON warnings (user_id);

-- Where mail goes when it goes nowhere: the demo's and the tests' outbox. Sealed, because mail holds links.
CREATE TABLE outbox (
    id        uuid PRIMARY KEY,
    at        timestamptz NOT NULL,
    recipient text NOT NULL,
    subject   text NOT NULL,
    sealed    bytea NOT NULL
);
CREATE INDEX outbox_at ON outbox (at DESC, id DESC);

-- +goose Down
DROP TABLE outbox, warnings;
ALTER TABLE users DROP COLUMN seen_at;
