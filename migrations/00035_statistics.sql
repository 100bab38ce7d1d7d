-- A search's plan no longer follows from how common a word is estimated to be, so that the usual sample is enough.

-- +goose Up
SET LOCAL lock_timeout = '5s';
ALTER TABLE search_documents ALTER COLUMN words SET STATISTICS -1;

-- +goose Down
ALTER TABLE search_documents ALTER COLUMN words SET STATISTICS 300;
