package refresh

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// HourlyStat counts the calls to a provider of one hour, kind, outcome and latency.
type HourlyStat struct {
	Provider, Environment string
	Hour                  time.Time
	Kind                  string // refresh or connect
	Outcome               status.Outcome
	Bucket                int // see LatencyBounds
	Calls                 int64
}

// LatencyBounds are the upper bounds of the latency buckets, of stored figures and of /metrics; the last bucket has none.
var LatencyBounds = []time.Duration{
	2 * time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
	200 * time.Millisecond, 300 * time.Millisecond, 500 * time.Millisecond, 750 * time.Millisecond, time.Second, 1500 * time.Millisecond,
	2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second,
}

func latencyBucket(took time.Duration) int {
	at, _ := slices.BinarySearch(LatencyBounds, took)
	return at
}

// Percentile estimates how long the given share (0 to 1) of the calls took at most, as if they lay evenly within each bucket.
// It is 0 when there are no calls.
func Percentile(list []HourlyStat, share float64) time.Duration {
	counts := make([]int64, len(LatencyBounds)+1)
	var all int64
	for _, s := range list {
		if s.Bucket >= 0 && s.Bucket < len(counts) {
			counts[s.Bucket] += s.Calls
			all += s.Calls
		}
	}
	want := share * float64(all)
	var before int64
	for i, n := range counts {
		if n == 0 || float64(before+n) < want {
			before += n
			continue
		}
		if i == len(LatencyBounds) {
			return LatencyBounds[i-1]
		}
		var low time.Duration
		if i > 0 {
			low = LatencyBounds[i-1]
		}
		return low + time.Duration(float64(LatencyBounds[i]-low)*(want-float64(before))/float64(n))
	}
	return 0
}

// addStats adds to the hours' counts.
func (e *Engine) addStats(ctx context.Context, list []HourlyStat) error {
	slices.SortFunc(list, func(a, b HourlyStat) int { // one order in all processes, so that none waits for another in a circle
		return cmp.Or(cmp.Compare(a.Provider, b.Provider), cmp.Compare(a.Environment, b.Environment), a.Hour.Compare(b.Hour), cmp.Compare(a.Kind, b.Kind),
			cmp.Compare(a.Outcome, b.Outcome), cmp.Compare(a.Bucket, b.Bucket))
	})
	var batch pgx.Batch
	for _, s := range list {
		batch.Queue(`
			INSERT INTO hourly_stats (provider, environment, hour, kind, outcome, bucket, calls) VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT (provider, environment, hour, kind, outcome, bucket) DO UPDATE SET calls = hourly_stats.calls + excluded.calls`,
			s.Provider, s.Environment, s.Hour, s.Kind, s.Outcome, int16(s.Bucket), s.Calls)
	}
	for _, h := range refreshHours(list) {
		batch.Queue(`INSERT INTO hourly_refreshes (hour, outcome, calls) VALUES ($1, $2, $3)
			ON CONFLICT (hour, outcome) DO UPDATE SET calls = hourly_refreshes.calls + excluded.calls`, h.Hour, h.Outcome, h.Calls)
	}
	if err := e.DB.Pool.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("add hourly stats: %w", err)
	}
	return nil
}

// RefreshHour is how many refreshes of one hour ended in one way, at all providers.
type RefreshHour struct {
	Hour    time.Time
	Outcome status.Outcome
	Calls   int64
}

// refreshHours adds up refreshes by hour and outcome, in one order.
func refreshHours(list []HourlyStat) (hours []RefreshHour) {
	for _, s := range list {
		if s.Kind != "refresh" {
			continue
		}
		at := slices.IndexFunc(hours, func(h RefreshHour) bool { return h.Hour.Equal(s.Hour) && h.Outcome == s.Outcome })
		if at < 0 {
			at, hours = len(hours), append(hours, RefreshHour{Hour: s.Hour, Outcome: s.Outcome})
		}
		hours[at].Calls += s.Calls
	}
	slices.SortFunc(hours, func(a, b RefreshHour) int { return cmp.Or(a.Hour.Compare(b.Hour), cmp.Compare(a.Outcome, b.Outcome)) })
	return hours
}

// Hours returns the refreshes since an hour, oldest first.
func (e *Engine) Hours(ctx context.Context, since time.Time) ([]RefreshHour, error) {
	return pg.Read(ctx, e.DB.DB, func(ctx context.Context, q pg.Querier) ([]RefreshHour, error) {
		return pg.Collect(ctx, q, "read hours of refreshes", pgx.RowToStructByPos[RefreshHour],
			`SELECT hour, outcome, calls FROM hourly_refreshes WHERE hour >= $1 ORDER BY hour, outcome`, since.Truncate(time.Hour))
	})
}

// Latencies sums all refreshes since an hour by provider, environment, outcome and latency.
func (e *Engine) Latencies(ctx context.Context, since time.Time) ([]HourlyStat, error) {
	return pg.Read(ctx, e.DB.DB, func(ctx context.Context, q pg.Querier) ([]HourlyStat, error) {
		return pg.Collect(ctx, q, "sum hourly stats", pgx.RowToStructByPos[HourlyStat], `
			SELECT provider, environment, $1::timestamptz, 'refresh', outcome, bucket::integer, sum(calls)::bigint FROM hourly_stats WHERE hour >= $1 AND kind = 'refresh'
			GROUP BY provider, environment, outcome, bucket`, since.Truncate(time.Hour))
	})
}

// ProviderHour is how many refreshes at one provider an hour had, and how many of them failed.
type ProviderHour struct {
	Hour          time.Time
	Calls, Failed int64
}

// ProviderHours returns the refreshes at a provider since an hour, oldest first. Hours without any are left out.
func (e *Engine) ProviderHours(ctx context.Context, provider, environment string, since time.Time) ([]ProviderHour, error) {
	return pg.Collect(ctx, e.DB.Pool, "read a provider's hours", pgx.RowToStructByPos[ProviderHour], `
		SELECT hour, sum(calls)::bigint, coalesce(sum(calls) FILTER (WHERE outcome <> $4), 0)::bigint FROM hourly_stats
		WHERE provider = $1 AND environment = $2 AND hour >= $3 AND kind = 'refresh' GROUP BY hour ORDER BY hour`,
		provider, environment, since, status.OK)
}

// LastSuccesses returns when each provider last answered well, by its name: to the second if that was a refresh of which the event is
// kept, else the hour. present is each provider's present environment; one that never did is left out.
func (e *Engine) LastSuccesses(ctx context.Context, present map[string]string) (map[string]time.Time, error) {
	last := make(map[string]time.Time, len(present))
	var name string
	var at time.Time
	err := pg.Each(ctx, e.DB.Pool, "read last successes", []any{&name, &at}, func() error { last[name] = at; return nil }, `
		SELECT p.name, coalesce(
			(SELECT max(at) FROM events e WHERE e.provider = p.name AND kind LIKE 'refresh.%' AND at >= s.hour AND at < s.hour + interval '1 hour' AND outcome = 'ok'), s.hour)
		FROM jsonb_each_text($1) AS p (name, environment) CROSS JOIN LATERAL (
			SELECT hour FROM hourly_stats WHERE provider = p.name AND environment = p.environment AND outcome = 'ok' ORDER BY hour DESC LIMIT 1) AS s`,
		present)
	return last, err
}

// QueueStats are a provider's grants at a glance, for /metrics; up to 100,000 each.
type QueueStats struct {
	Oldest  time.Duration // for how long the longest waiting has been due
	Due     int64         // refresh_at has come
	Overdue int64         // more than five minutes ago
	Leased  int64
}

func (q *providerQueue) stats(ctx context.Context) (s QueueStats, err error) {
	now := q.db.Now()
	err = q.db.Pool.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM (SELECT FROM grants WHERE provider = $1 AND environment = $2 AND refresh_at <= $3 LIMIT 100000) AS a),
		(SELECT count(*) FROM (SELECT FROM grants WHERE provider = $1 AND environment = $2 AND refresh_at <= $4 LIMIT 100000) AS b),
		(SELECT count(*) FROM provider_slots WHERE provider = $1 AND environment = $2 AND busy_until > $3),
		coalesce($3 - (SELECT min(refresh_at) FROM grants WHERE provider = $1 AND environment = $2 AND refresh_at <= $3), interval '0')`,
		q.info.Name, q.info.Environment, now, now.Add(-5*time.Minute)).Scan(&s.Due, &s.Overdue, &s.Leased, &s.Oldest)
	if err != nil {
		return s, fmt.Errorf("count due grants: %w", err)
	}
	return s, nil
}

// DropOld deletes what is not read any more: token reads after 100 days, hourly stats after two years, revocation notices
// after a day.
func (e *Engine) DropOld(ctx context.Context) error {
	now := e.DB.Now()
	for _, one := range []struct {
		sql    string
		before time.Time
	}{
		{`DELETE FROM token_reads WHERE minute < $1`, now.AddDate(0, 0, -100)},
		{`DELETE FROM hourly_stats WHERE hour < $1`, now.AddDate(-2, 0, 0)},
		{`DELETE FROM hourly_refreshes WHERE hour < $1`, now.AddDate(-2, 0, 0)},
		{`DELETE FROM rechecks WHERE notified_at < $1`, now.AddDate(0, 0, -1)},
	} {
		if _, err := pg.Exec(ctx, e.DB.Pool, "drop old figures", one.sql, one.before); err != nil {
			return err
		}
	}
	return nil
}
