package db

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"patchbay/internal/status"

	"github.com/jackc/pgx/v5"
)

// Rollup counts calls to a provider of one hour, kind, class and latency: what charts and percentiles are made of.
type Rollup struct {
	Provider, Environment string
	Hour                  time.Time
	Kind                  string // refresh or connect
	Class                 status.Outcome
	Bucket                int // see LatencyBounds
	Calls                 int64
}

// LatencyBounds are the upper bounds of the latency buckets; the last bucket has none.
func LatencyBounds() []time.Duration {
	return []time.Duration{
		2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond, 500 * time.Millisecond, 750 * time.Millisecond,
		time.Second, 1500 * time.Millisecond, 2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second,
	}
}

// LatencyBucket is the bucket that a call of this length falls into.
func LatencyBucket(took time.Duration) int {
	bounds := LatencyBounds()
	at, _ := slices.BinarySearch(bounds, took)
	return at
}

// AddRollups adds to the hours' counts.
func (d *DB) AddRollups(ctx context.Context, list []Rollup) error {
	slices.SortFunc(list, func(a, b Rollup) int { // one order in all processes
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Environment, b.Environment), a.Hour.Compare(b.Hour), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Class, b.Class), cmp.Compare(a.Bucket, b.Bucket))
	})
	var batch pgx.Batch
	for _, r := range list {
		batch.Queue(`
			INSERT INTO rollups (provider, environment, hour, kind, class, bucket, calls) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (provider, environment, hour, kind, class, bucket) DO UPDATE SET calls = rollups.calls + excluded.calls`,
			r.Provider, r.Environment, r.Hour, r.Kind, r.Class, int16(r.Bucket), r.Calls)
	}
	for _, h := range refreshHours(list) {
		batch.Queue(`INSERT INTO refresh_hours (hour, class, calls) VALUES ($1, $2, $3)
			ON CONFLICT (hour, class) DO UPDATE SET calls = refresh_hours.calls + excluded.calls`, h.Hour, h.Class, h.Calls)
	}
	if err := d.Pool.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("add rollups: %w", err)
	}
	return nil
}

// refreshHours adds up refreshes by hour and class, in one order.
func refreshHours(list []Rollup) (hours []RefreshHour) {
	for _, r := range list {
		if r.Kind != "refresh" {
			continue
		}
		at := slices.IndexFunc(hours, func(h RefreshHour) bool { return h.Hour.Equal(r.Hour) && h.Class == r.Class })
		if at < 0 {
			at, hours = len(hours), append(hours, RefreshHour{Hour: r.Hour, Class: r.Class})
		}
		hours[at].Calls += r.Calls
	}
	slices.SortFunc(hours, func(a, b RefreshHour) int { return cmp.Or(a.Hour.Compare(b.Hour), cmp.Compare(a.Class, b.Class)) })
	return hours
}

// Percentile estimates how long the given share (0 to 1) of the calls took at most: within its bucket as if they lay evenly.
// 0 when there are none.
func Percentile(list []Rollup, share float64) time.Duration {
	bounds := LatencyBounds()
	counts := make([]int64, len(bounds)+1)
	var all int64
	for _, r := range list {
		if r.Bucket >= 0 && r.Bucket < len(counts) {
			counts[r.Bucket] += r.Calls
			all += r.Calls
		}
	}
	want := share * float64(all)
	var before int64
	for i, n := range counts {
		if n == 0 || float64(before+n) < want {
			before += n
			continue
		}
		if i == len(bounds) {
			return bounds[i-1]
		}
		var low time.Duration
		if i > 0 {
			low = bounds[i-1]
		}
		return low + time.Duration(float64(bounds[i]-low)*(want-float64(before))/float64(n))
	}
	return 0
}

// Count is how many connections of a provider are in one health.
type Count struct {
	Provider, Environment string
	Health                status.Health // as stored: without what the provider's settings make of it
	Connections           int64
}

// CurrentHealth returns the health of the connections that were counted together.
func (c Count) CurrentHealth(providers status.Providers) status.Health {
	return status.Of(status.RowOf(c.Environment, string(c.Health)), providers[c.Provider]).Health
}

// Counts reads the counters.
func (d *DB) Counts(ctx context.Context) ([]Count, error) {
	rows, err := d.Pool.Query(ctx, `
		SELECT provider, environment, health, sum(difference)::bigint FROM counters GROUP BY 1, 2, 3 HAVING sum(difference) <> 0 ORDER BY 1, 2, 3`)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Count])
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	return list, nil
}

// FoldCounts makes one row of the many differences of each counter. Rows that others add meanwhile stay.
func (d *DB) FoldCounts(ctx context.Context) error {
	_, err := d.Pool.Exec(ctx, `
		WITH taken AS (
			DELETE FROM counters WHERE ctid = ANY (ARRAY(SELECT ctid FROM counters LIMIT 20000 FOR UPDATE SKIP LOCKED)) RETURNING provider, environment, health, difference
		)
		INSERT INTO counters (provider, environment, health, difference)
		SELECT provider, environment, health, sum(difference) FROM taken GROUP BY 1, 2, 3 HAVING sum(difference) <> 0`)
	if err != nil {
		return fmt.Errorf("fold counters: %w", err)
	}
	return nil
}

// LaneFigures are a provider's grants at a glance, for /metrics.
type LaneFigures struct {
	Provider, Environment string
	Due                   int64 // refresh_at has come
	Overdue               int64 // more than five minutes ago
	Leased                int64
}

// LaneFigures counts due, overdue and leased grants; up to 100,000 each.
func (d *DB) LaneFigures(ctx context.Context, provider, environment string) (LaneFigures, error) {
	f := LaneFigures{Provider: provider, Environment: environment}
	now := d.Now()
	err := d.Pool.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM (SELECT FROM grants WHERE provider = $1 AND environment = $2 AND refresh_at <= $3 LIMIT 100000) AS a),
		(SELECT count(*) FROM (SELECT FROM grants WHERE provider = $1 AND environment = $2 AND refresh_at <= $4 LIMIT 100000) AS b),
		(SELECT count(*) FROM slots WHERE provider = $1 AND environment = $2 AND until > $3)`,
		provider, environment, now, now.Add(-5*time.Minute)).Scan(&f.Due, &f.Overdue, &f.Leased)
	if err != nil {
		return f, fmt.Errorf("count due grants: %w", err)
	}
	return f, nil
}

// DropOldFigures forgets what nobody looks at any more: token reads after 100 days, rollups after two years, hints after a day.
func (d *DB) DropOldFigures(ctx context.Context) error {
	now := d.Now()
	for _, one := range []struct {
		sql    string
		before time.Time
	}{
		{`DELETE FROM token_reads WHERE minute < $1`, now.AddDate(0, 0, -100)},
		{`DELETE FROM rollups WHERE hour < $1`, now.AddDate(-2, 0, 0)},
		{`DELETE FROM refresh_hours WHERE hour < $1`, now.AddDate(-2, 0, 0)},
		{`DELETE FROM verifications WHERE hinted_at < $1`, now.AddDate(0, 0, -1)},
	} {
		if _, err := d.Pool.Exec(ctx, one.sql, one.before); err != nil {
			return fmt.Errorf("drop old figures: %w", err)
		}
	}
	return nil
}
