-- Connections by the reference that people read out: the last 40 bits of their ids.

-- +goose NO TRANSACTION
-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS connections_reference; -- what a try that was broken off has left
CREATE INDEX CONCURRENTLY connections_reference ON connections (right(id::text, 10));

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS connections_reference;
