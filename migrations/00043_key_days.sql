-- How many tokens a key was handed each day, for the list of keys: adding up its reads by connection and minute would be
-- millions of rows for a day of a large platform.

-- +goose Up
CREATE TABLE key_days (
    key_id uuid NOT NULL,
    day    date NOT NULL,                                        -- of UTC
    reads  bigint NOT NULL,
    PRIMARY KEY (key_id, day)
);
INSERT INTO key_days (key_id, day, reads) SELECT key_id, (minute AT TIME ZONE 'UTC')::date, sum(reads) FROM token_reads GROUP BY 1, 2;

-- +goose Down
DROP TABLE key_days;
