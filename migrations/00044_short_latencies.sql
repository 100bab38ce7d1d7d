-- Latencies of less than 50 ms are told apart: four buckets come before those there were.

-- +goose Up
UPDATE rollups SET bucket = -bucket - 1;
UPDATE rollups SET bucket = -bucket - 1 + 4;

-- +goose Down
UPDATE rollups SET bucket = -greatest(bucket, 4) - 1 WHERE bucket >= 4;
DELETE FROM rollups WHERE bucket >= 0;
UPDATE rollups SET bucket = -bucket - 1 - 4;
