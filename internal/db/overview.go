package db

import (
	"context"
	"fmt"
	"time"

	"patchbay/internal/status"

	"github.com/jackc/pgx/v5"
)

// RefreshHour is how many refreshes of one hour ended in one way, at all providers.
type RefreshHour struct {
	Hour  time.Time
	Class status.Outcome
	Calls int64
}

// RefreshHours returns those since an hour, oldest first, for the chart.
func (d *DB) RefreshHours(ctx context.Context, since time.Time) ([]RefreshHour, error) {
	rows, err := d.Pool.Query(ctx, `SELECT hour, class, calls FROM refresh_hours WHERE hour >= $1 ORDER BY hour, class`, since.Truncate(time.Hour))
	if err != nil {
		return nil, fmt.Errorf("read hours of refreshes: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[RefreshHour])
	if err != nil {
		return nil, fmt.Errorf("read hours of refreshes: %w", err)
	}
	return list, nil
}

// RefreshLatencies sums all refreshes since an hour by provider, environment, class and bucket of latency.
func (d *DB) RefreshLatencies(ctx context.Context, since time.Time) ([]Rollup, error) {
	rows, err := d.Pool.Query(ctx, `SELECT provider, environment, $1::timestamptz, 'refresh', class, bucket::integer, sum(calls)::bigint FROM rollups WHERE hour >= $1 AND kind = 'refresh'
		GROUP BY provider, environment, class, bucket`, since.Truncate(time.Hour))
	if err != nil {
		return nil, fmt.Errorf("sum rollups: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Rollup])
	if err != nil {
		return nil, fmt.Errorf("sum rollups: %w", err)
	}
	return list, nil
}
