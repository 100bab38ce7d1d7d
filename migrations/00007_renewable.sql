-- Whether a grant holds anything that gives new access. One that does not is good until its token ends, or until it is refused
-- if no end is known. Older rows are found out by the next attempt, which sends nothing.

-- +goose Up
ALTER TABLE grants ADD COLUMN renewable boolean NOT NULL DEFAULT true;

-- +goose Down
ALTER TABLE grants DROP COLUMN renewable;
