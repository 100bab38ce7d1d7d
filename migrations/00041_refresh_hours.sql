-- The overview's chart: refreshes of an hour by how they ended, over all providers. Rollups have a hundred rows an hour for
-- the same, one for each provider, environment and bucket of latency.

-- +goose Up
CREATE TABLE refresh_hours (
    hour  timestamptz NOT NULL,
    class text NOT NULL,
    calls bigint NOT NULL,
    PRIMARY KEY (hour, class)
);
INSERT INTO refresh_hours (hour, class, calls) SELECT hour, class, sum(calls) FROM rollups WHERE kind = 'refresh' GROUP BY 1, 2;

-- +goose Down
DROP TABLE refresh_hours;
