-- +goose Up
SET LOCAL lock_timeout = '5s';
-- How often all access of a user was ended: by another password, a lock or another role. A session begins only if none of that
-- happened since the password was checked.
ALTER TABLE users ADD COLUMN access_version bigint NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE users DROP COLUMN access_version;
