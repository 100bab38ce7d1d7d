-- What merchants and staff call a connection among themselves, and the reference by which it is said on the phone: the last 40 bits of
-- its id, which are random (RFC 9562 section 5.7).

-- +goose NO TRANSACTION
-- +goose Up
ALTER TABLE connections ADD COLUMN IF NOT EXISTS nickname text NOT NULL DEFAULT '';
DROP INDEX CONCURRENTLY IF EXISTS connections_reference; -- what a try that was broken off has left
CREATE INDEX CONCURRENTLY connections_reference ON connections (substring(uuid_send(id) FROM 12));

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS connections_reference;
ALTER TABLE connections DROP COLUMN IF EXISTS nickname;
