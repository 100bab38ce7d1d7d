-- The flows that a browser began, for providers that do not send state back.

-- +goose NO TRANSACTION
-- +goose Up
DROP INDEX CONCURRENTLY IF EXISTS flows_browser; -- what a try that was broken off has left
CREATE INDEX CONCURRENTLY flows_browser ON flows (browser_hash, created_at DESC);

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS flows_browser;
