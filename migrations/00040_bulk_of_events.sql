-- Many refreshes at once may also be those that a list of events names: "all that failed in yesterday's outage".

-- +goose Up
ALTER TABLE bulks ADD COLUMN list text NOT NULL DEFAULT 'connections' CHECK (list IN ('connections', 'events'));

-- +goose Down
ALTER TABLE bulks DROP COLUMN list;
