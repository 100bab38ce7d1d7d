-- Rows that give authority carry a MAC under a key of the keyset: see db.SignedRows. A row without one gives none. Rows from before are
-- signed once, at the next start.

-- +goose Up
ALTER TABLE users ADD COLUMN IF NOT EXISTS mac bytea;
ALTER TABLE sessions ADD COLUMN IF NOT EXISTS mac bytea;
ALTER TABLE links ADD COLUMN IF NOT EXISTS mac bytea;
ALTER TABLE api_keys ADD COLUMN IF NOT EXISTS mac bytea;

-- +goose Down
-- Nothing: without the MACs all would be signed out for good.
SELECT;
