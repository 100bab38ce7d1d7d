-- The mail about a restore: see db.EnqueueWarnings. about is when the database was brought back.

-- +goose Up
ALTER TABLE warnings DROP CONSTRAINT warnings_kind_check;
ALTER TABLE warnings ADD CONSTRAINT warnings_kind_check CHECK (kind IN ('action-needed', 'reconnect-by', 'restored')) NOT VALID;

-- +goose Down
DELETE FROM warnings WHERE kind = 'restored';
ALTER TABLE warnings DROP CONSTRAINT warnings_kind_check;
ALTER TABLE warnings ADD CONSTRAINT warnings_kind_check CHECK (kind IN ('action-needed', 'reconnect-by')) NOT VALID;
