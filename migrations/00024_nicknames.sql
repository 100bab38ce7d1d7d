-- What merchants and staff call a connection among themselves.
-- +goose Up
ALTER TABLE connections ADD COLUMN nickname text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE connections DROP COLUMN nickname;
