-- What staff note about a connection for each other. Merchants never see it.

-- +goose Up
CREATE TABLE notes (
    id            uuid PRIMARY KEY,
    connection_id uuid NOT NULL REFERENCES connections ON DELETE CASCADE,
    author_id     uuid NOT NULL,        -- a user of the staff
    created_at    timestamptz NOT NULL,
    text          text NOT NULL CHECK (text <> '')
);
CREATE INDEX notes_connection ON notes (connection_id, created_at DESC, id DESC);

-- +goose Down
DROP TABLE notes;
