package refresh

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/schedule"
	"patchbay/internal/status"
)

// usage counts what was read, in memory: the read's own path writes nothing. A crash loses what came after the last flush,
// a few seconds.
type usage struct {
	mu    sync.Mutex
	reads map[readKey]int64
	keys  map[pg.ID]time.Time
	marks map[pg.ID]tokenUse
}

type readKey struct {
	key, connection pg.ID
	minute          int64
}

// tokenUse is one use of a connection's token.
type tokenUse struct {
	Connection pg.ID
	Key        pg.ID
	At         time.Time
	RefreshAt  time.Time // when a used grant like this one is due
}

// A used connection is marked again only after this long: a mark is a write.
const markEvery = 5 * time.Minute

// RecordTokenRead accounts for one token of a connection handed out to an API key (zero: to none), so that the connection is kept warm.
func (e *Engine) RecordTokenRead(connection, key pg.ID, h db.TokenRead) {
	now := e.DB.Now()
	u := &e.usage
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ensure()
	if key != (pg.ID{}) {
		u.reads[readKey{key: key, connection: connection, minute: now.Unix() / 60}]++
		u.keys[key] = now
	}
	if now.Sub(h.UsedAt) < markEvery {
		return
	}
	mark := tokenUse{Connection: connection, Key: key, At: now}
	if q := e.queueOf(h.Provider, h.Environment); q != nil && !h.ExpiresAt.IsZero() {
		mark.RefreshAt = schedule.DueAfter(q.info.KeepAlive, connection, h.ExpiresAt.Add(-h.Lifetime), h.Lifetime, 0, true)
	}
	u.marks[connection] = mark
}

func (u *usage) ensure() {
	if u.reads == nil {
		u.reads, u.keys, u.marks = map[readKey]int64{}, map[pg.ID]time.Time{}, map[pg.ID]tokenUse{}
	}
}

// RecordKeyUse notes that a key was used for something else than a token.
func (e *Engine) RecordKeyUse(key pg.ID) {
	u := &e.usage
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ensure()
	u.keys[key] = e.DB.Now()
}

// Flush writes down all counts; Run does so every few seconds. What could not be written is kept for the next time.
func (e *Engine) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	u := &e.usage
	u.mu.Lock()
	reads, keys, marks := u.reads, u.keys, u.marks
	u.reads, u.keys, u.marks = nil, nil, nil
	u.mu.Unlock()
	var faults []error
	if len(reads) > 0 || len(keys) > 0 {
		if err := e.addReads(ctx, reads, keys); err != nil {
			faults = append(faults, err)
			u.restore(reads, keys)
		}
	}
	if len(marks) > 0 {
		if err := e.markUsed(ctx, slices.Collect(maps.Values(marks))); err != nil {
			faults = append(faults, err) // the next read marks again
		}
	}
	faults = append(faults, e.flushCounts(ctx))
	return errors.Join(faults...)
}

// addReads adds counts of token reads and notes when each key was last used.
func (e *Engine) addReads(ctx context.Context, reads map[readKey]int64, used map[pg.ID]time.Time) error {
	// One order in all processes, so that none waits for another in a circle.
	order := slices.SortedFunc(maps.Keys(reads), func(a, b readKey) int {
		return cmp.Or(slices.Compare(a.key[:], b.key[:]), cmp.Compare(a.minute, b.minute), slices.Compare(a.connection[:], b.connection[:]))
	})
	n := len(order)
	keys, connections, minutes, counts := make([]pg.ID, n), make([]pg.ID, n), make([]time.Time, n), make([]int64, n)
	for i, by := range order {
		keys[i], connections[i], minutes[i], counts[i] = by.key, by.connection, time.Unix(by.minute*60, 0).UTC(), reads[by]
	}
	usedKeys := slices.SortedFunc(maps.Keys(used), func(a, b pg.ID) int { return slices.Compare(a[:], b[:]) })
	ats := make([]time.Time, len(usedKeys))
	for i, id := range usedKeys {
		ats[i] = used[id]
	}
	return e.DB.Tx(ctx, func(tx pgx.Tx) error {
		_, err := pg.Exec(ctx, tx, "add token reads", `
			INSERT INTO token_reads (key_id, connection_id, minute, reads)
			SELECT key, connection, minute, reads FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[]) AS w (key, connection, minute, reads)
			ON CONFLICT (key_id, minute, connection_id) DO UPDATE SET reads = token_reads.reads + excluded.reads`, keys, connections, minutes, counts)
		if err != nil {
			return err
		}
		_, err = pg.Exec(ctx, tx, "add token reads of the day", `
			INSERT INTO api_key_daily_reads (key_id, day, reads)
			SELECT key, (minute AT TIME ZONE 'UTC')::date, sum(reads) FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[]) AS w (key, minute, reads) GROUP BY 1, 2 ORDER BY 1, 2
			ON CONFLICT (key_id, day) DO UPDATE SET reads = api_key_daily_reads.reads + excluded.reads`, keys, minutes, counts)
		if err != nil {
			return err
		}
		_, err = pg.Exec(ctx, tx, "note the use of API keys", `
			UPDATE api_keys k SET last_used_at = greatest(k.last_used_at, w.at)
			FROM unnest($1::uuid[], $2::timestamptz[]) AS w (id, at) WHERE k.id = w.id`, usedKeys, ats)
		return err
	})
}

// markUsed notes uses of grants, so that what is used is kept warm, and with the connection the day of its last use, which lists
// sort by: once a day, since each time its indexes are written. A row that another statement holds is left for the next use: that
// statement may be waiting for the other row of the two.
func (e *Engine) markUsed(ctx context.Context, uses []tokenUse) error {
	n := len(uses)
	ids, keys, ats, due := make([]pg.ID, n), make([]pg.ID, n), make([]time.Time, n), make([]time.Time, n)
	for i, u := range uses {
		ids[i], keys[i], ats[i], due[i] = u.Connection, u.Key, u.At, u.RefreshAt
	}
	_, err := pg.Exec(ctx, e.DB.Pool, "mark grants as used", `
		WITH used AS (
			UPDATE grants g SET used_at = w.at, used_by = w.key, refresh_at = CASE WHEN g.last_outcome = 'ok' AND g.lease_id IS NULL AND g.renewable THEN least(g.refresh_at, w.due) ELSE g.refresh_at END
			FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::timestamptz[]) AS w (id, key, at, due)
			WHERE g.connection_id = w.id AND g.sealed IS NOT NULL AND g.connection_id = ANY (ARRAY(
				SELECT u.connection_id FROM grants u WHERE u.connection_id = ANY ($1) FOR UPDATE SKIP LOCKED))
			RETURNING g.connection_id AS id, (g.used_at AT TIME ZONE 'UTC')::date AS day)
		UPDATE connections c SET used_on = f.day
		FROM (SELECT o.id, used.day FROM used JOIN connections o ON o.id = used.id WHERE o.used_on <> used.day FOR NO KEY UPDATE OF o SKIP LOCKED) AS f
		WHERE c.id = f.id`, ids, keys, ats, due)
	return err
}

func (u *usage) restore(reads map[readKey]int64, keys map[pg.ID]time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ensure()
	for by, n := range reads {
		u.reads[by] += n
	}
	for id, at := range keys {
		if u.keys[id].Before(at) {
			u.keys[id] = at
		}
	}
}

// counters count calls to providers until they are written into the hour's stats.
type counters struct {
	mu    sync.Mutex
	calls map[HourlyStat]int64 // the key's Calls is 0
}

// Count counts one call to a provider, for charts and /metrics. kind is refresh or connect, outcome as connectors.OutcomeOf says.
func (e *Engine) Count(provider, environment, kind string, outcome status.Outcome, took time.Duration) {
	e.Metrics.count(provider, kind, outcome, took)
	e.counts.add(map[HourlyStat]int64{{
		Provider: provider, Environment: environment, Hour: e.DB.Now().Truncate(time.Hour), Kind: kind, Outcome: outcome, Bucket: latencyBucket(took),
	}: 1})
}

func (c *counters) add(calls map[HourlyStat]int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls == nil {
		c.calls = map[HourlyStat]int64{}
	}
	for key, n := range calls {
		c.calls[key] += n
	}
}

func (e *Engine) flushCounts(ctx context.Context) error {
	e.counts.mu.Lock()
	calls := e.counts.calls
	e.counts.calls = nil
	e.counts.mu.Unlock()
	if len(calls) == 0 {
		return nil
	}
	list := make([]HourlyStat, 0, len(calls))
	for key, n := range calls {
		key.Calls = n
		list = append(list, key)
	}
	err := e.addStats(ctx, list)
	if err != nil {
		e.counts.add(calls)
	}
	return err
}
