package db

import (
	"context"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Count is how many connections of a provider are in one health.
type Count struct {
	Provider, Environment string
	Health                status.Health // as stored, without the provider's settings
	Connections           int64
}

// CurrentHealth returns the health of these connections under the providers' present settings.
func (c Count) CurrentHealth(providers status.Providers) status.Health {
	return status.Of(status.RowOf(c.Environment, string(c.Health)), providers[c.Provider]).Health
}

// Counts reads connection_counts, which triggers of connections write (connections_count_inserted, connections_count_updated, connections_count_deleted).
func (d *DB) Counts(ctx context.Context) ([]Count, error) {
	return pg.Read(ctx, d.DB, func(ctx context.Context, q pg.Querier) ([]Count, error) {
		return pg.Collect(ctx, q, "read connection counts", pgx.RowToStructByPos[Count], `
			SELECT provider, environment, health, sum(delta)::bigint FROM connection_counts GROUP BY 1, 2, 3 HAVING sum(delta) <> 0 ORDER BY 1, 2, 3`)
	})
}

// FoldCounts replaces the rows of each counter by one with their sum. Rows that are added while it runs stay.
func (d *DB) FoldCounts(ctx context.Context) error {
	_, err := pg.Exec(ctx, d.Pool, "fold connection counts", `
		WITH taken AS (
			DELETE FROM connection_counts WHERE ctid = ANY (ARRAY(SELECT ctid FROM connection_counts LIMIT 20000 FOR UPDATE SKIP LOCKED)) RETURNING provider, environment, health, delta
		)
		INSERT INTO connection_counts (provider, environment, health, delta)
		SELECT provider, environment, health, sum(delta) FROM taken GROUP BY 1, 2, 3 HAVING sum(delta) <> 0`)
	return err
}
