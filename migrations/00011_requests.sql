-- +goose Up
SET LOCAL lock_timeout = '5s';
ALTER TABLE events ADD COLUMN request text NOT NULL DEFAULT ''; -- the X-Request-Id of the request in which it happened

-- +goose Down
ALTER TABLE events DROP COLUMN request;
