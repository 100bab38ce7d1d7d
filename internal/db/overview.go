package db

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// RefreshesByHour sums all refreshes since an hour by hour and class, for the chart.
func (d *DB) RefreshesByHour(ctx context.Context, since time.Time) ([]Rollup, error) {
	return d.sums(ctx, `SELECT '', '', hour, 'refresh', class, 0, sum(calls)::bigint FROM rollups WHERE hour >= $1 AND kind = 'refresh' GROUP BY hour, class ORDER BY hour, class`, since)
}

// RefreshLatencies sums all refreshes since an hour by provider, environment, class and bucket of latency.
func (d *DB) RefreshLatencies(ctx context.Context, since time.Time) ([]Rollup, error) {
	return d.sums(ctx, `SELECT provider, environment, $1::timestamptz, 'refresh', class, bucket::integer, sum(calls)::bigint FROM rollups WHERE hour >= $1 AND kind = 'refresh'
		GROUP BY provider, environment, class, bucket ORDER BY provider, environment, class, bucket`, since)
}

func (d *DB) sums(ctx context.Context, sql string, since time.Time) ([]Rollup, error) {
	rows, err := d.pool.Query(ctx, sql, since.Truncate(time.Hour))
	if err != nil {
		return nil, fmt.Errorf("sum rollups: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Rollup])
	if err != nil {
		return nil, fmt.Errorf("sum rollups: %w", err)
	}
	for i := range list {
		list[i].Hour = list[i].Hour.UTC()
	}
	return list, nil
}
