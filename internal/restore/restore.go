// Package restore notices that the database was brought back to an earlier state, from a backup or by a standby that lacked the last
// transactions: refresh tokens that were spent since are lost, and what their providers then reject is no fault of the merchants.
package restore

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

const (
	settingIdentity = "database.identity"
	settingRestored = "database.restored"      // when that was noticed or declared last, and how far the restored state reaches, by RFC 3339
	settingDeclared = "database.restored_said" // the former as it was when an operator confirmed it
	settingServed   = "database.served"        // when a process served last, by RFC 3339
	settingPause    = "database.pause"         // from when until when none served
)

// maxServingGap is how long no process may have served until that is taken for a pause, in which files may have been put back, or more than
// a failover lost.
const maxServingGap = 3 * time.Minute

// ShowFor is how long staff are shown a restore.
const ShowFor = 7 * 24 * time.Hour

// State is what is known of the last time that the database was brought back to an earlier state. At is zero if it never was.
type State struct {
	At                    time.Time // when it was noticed, or the time that an operator declared
	AsOf                  time.Time // how far the restored state reaches; zero when that is unknown
	Declared              bool      // an operator has confirmed it
	PauseFrom, PauseUntil time.Time // when no process served, the last time; zero for never. It is unknown whether files were put back
}

// Lost says whether At is a restore that lost refreshes, and not a standby that took over with nearly all there was.
func (r State) Lost() bool {
	return !r.At.IsZero() && (r.Declared || r.At.Sub(r.AsOf) > maxServingGap)
}

// Suspected says whether there was a pause since, after which a restore cannot be told from a crash. One that begins as At was noticed is
// the wait until a process was started again.
func (r State) Suspected() bool { return r.PauseFrom.After(r.At.Add(maxServingGap)) }

// parseState returns the state that settings hold.
func parseState(settings map[string]string) (r State) {
	times := func(name string) (first, second time.Time) { // a missing one is zero
		one, two, _ := strings.Cut(settings[name], " ")
		first, _ = time.Parse(time.RFC3339Nano, one)
		second, _ = time.Parse(time.RFC3339Nano, two)
		return first, second
	}
	r.At, r.AsOf = times(settingRestored)
	r.PauseFrom, r.PauseUntil = times(settingPause)
	declared, _ := times(settingDeclared)
	r.Declared = !r.At.IsZero() && declared.Equal(r.At)
	return r
}

func formatTimes(first, second time.Time) string {
	text := first.UTC().Format(time.RFC3339Nano)
	if second.IsZero() {
		return text
	}
	return text + " " + second.UTC().Format(time.RFC3339Nano)
}

const restoreSettings = `(SELECT coalesce(jsonb_object_agg(name, value), '{}') FROM settings WHERE name LIKE 'database.%')`

// Last returns what is known of the last restore, without looking whether there was another.
func Last(ctx context.Context, q pg.Querier) (State, error) {
	settings, err := pg.One(ctx, q, "read the last restore", pgx.RowTo[map[string]string], `SELECT `+restoreSettings)
	return parseState(settings), err
}

// observation is what a process has seen of the database.
type observation struct {
	transactions int64 // how many the cluster had begun
	at           time.Time
}

// Watch is one process's view of a database. Its methods are safe for concurrent use.
type Watch struct {
	db    *pg.DB
	audit *audit.Log

	mu     sync.Mutex
	latest observation // that this process has seen
}

// NewWatch begins to watch a database.
func NewWatch(d *pg.DB, events *audit.Log) *Watch { return &Watch{db: d, audit: events} }

func (w *Watch) observed() observation {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest
}

// observe keeps an observation; back: the database was put back, and earlier ones do not count.
func (w *Watch) observe(s observation, back bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if back || s.transactions > w.latest.transactions {
		w.latest = s
	}
}

// Check finds out whether the database is a copy of an earlier state, or is another than the one that served before, and returns what is
// known of the last time. first says that this call noticed it: of many processes one does.
//
// A setting holds the identity of the cluster, of the database and of its timeline, and the id of the transaction that wrote the
// setting. In a database that was restored elsewhere, was recovered to a point in time or is a standby that took over, the former
// differs; in a row that was copied, as a dump does, the row's own transaction (xmin) is another than the one it names. A cluster
// that a running process has seen further on was put back with all that is in it.
func (w *Watch) Check(ctx context.Context) (last State, first bool, err error) {
	for {
		var identity, writer, was string
		var settings map[string]string
		var transactions int64
		seen := w.observed() // before Postgres is asked: of two that ask at once, the one that is answered last may have been asked first
		err := w.db.Pool.QueryRow(ctx, `
			SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), (SELECT oid FROM pg_database WHERE datname = current_database()),
					(SELECT timeline_id FROM pg_control_checkpoint())),
				coalesce(i.xmin::text, ''), coalesce(i.value, ''), `+restoreSettings+`, pg_snapshot_xmax(pg_current_snapshot())::text::bigint
			FROM (SELECT) AS one LEFT JOIN settings i ON i.name = $1`, settingIdentity).
			Scan(&identity, &writer, &was, &settings, &transactions)
		if err != nil {
			return last, false, err
		}
		last = parseState(settings)
		now := w.db.Now()
		back := transactions < seen.transactions && !last.At.After(seen.at)
		w.observe(observation{transactions, now}, back)
		if was == identity+" "+writer && !back {
			return last, false, nil
		}
		first = was != "" && was != identity // without a transaction an earlier program wrote it
		written := false
		err = w.db.Tx(ctx, func(tx pgx.Tx) error {
			n, err := pg.Exec(ctx, tx, "keep the database's identity", `
				INSERT INTO settings (name, value) SELECT $1, $2 || ' ' || pg_current_xact_id()::xid::text
				ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE settings.value = $3`, settingIdentity, identity, was)
			if written = n > 0; err != nil || !written || !first {
				return err
			}
			known, _ := time.Parse(time.RFC3339Nano, settings[settingServed])
			last.At, last.AsOf, last.Declared = laterOf(now, last.At), known, false
			return w.addRestore(ctx, tx, last)
		})
		switch {
		case err != nil:
			return last, false, err
		case written && first:
			return last, true, nil
		case written:
			return last, false, nil
		} // another process was first
	}
}

// laterOf returns a time after before: now, or the first that Postgres can distinguish if the clock went back.
func laterOf(now, before time.Time) time.Time {
	if now.After(before) {
		return now
	}
	return before.Add(time.Microsecond)
}

// addRestore writes a restore and its event.
func (w *Watch) addRestore(ctx context.Context, tx pgx.Tx, r State) error {
	names, values := []string{settingRestored, settingServed}, []string{formatTimes(r.At, r.AsOf), formatTimes(w.db.Now(), time.Time{})}
	kind := status.DatabaseRestored
	if r.Declared {
		names, values, kind = append(names, settingDeclared), append(values, formatTimes(r.At, time.Time{})), status.DatabaseBroughtBack
	}
	if _, err := pg.Exec(ctx, tx, "note a restore", `
		INSERT INTO settings (name, value) SELECT * FROM unnest($1::text[], $2::text[]) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, names, values); err != nil {
		return err
	}
	return w.audit.Add(ctx, tx, audit.Event{Kind: kind})
}

// RecordServing notes that a process serves, once a minute, and that none did for longer than maxServingGap before.
func RecordServing(ctx context.Context, d *pg.DB) error {
	now := d.Now().UTC()
	_, err := pg.Exec(ctx, d.Pool, "note that a process serves", `
		WITH was AS (
			SELECT value FROM settings WHERE name = $1 FOR UPDATE
		), pause AS (
			INSERT INTO settings (name, value) SELECT $2, was.value || ' ' || $3 FROM was WHERE was.value::timestamptz < $4
			ON CONFLICT (name) DO UPDATE SET value = excluded.value
			RETURNING 1
		) -- counted, so that it reads the row before that is written
		INSERT INTO settings (name, value) SELECT $1, $3 WHERE (SELECT count(*) FROM pause) >= 0 ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		settingServed, settingPause, now.Format(time.RFC3339Nano), now.Add(-maxServingGap))
	return err
}

// Declaration is the result of Declare.
type Declaration struct {
	State
	Changed  bool  // it was not marked so late, or not confirmed, before
	Repaired int64 // connections that were taken for rejected
}

// declareWithin is for how long a restore counts as the present one: an operator who says that there was one, and not when, means the one
// that was noticed since, or whose pause ended since.
const declareWithin = 24 * time.Hour

// Declare marks the database as brought back at a time, which is zero for when that was noticed, or else when the last pause ended,
// or else now. What a provider rejected since, and last gave before, is taken for interrupted by the restore. The mark only grows.
func (w *Watch) Declare(ctx context.Context, at time.Time) (done Declaration, err error) {
	if _, _, err = w.Check(ctx); err != nil {
		return done, err
	}
	err = w.db.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		if _, err := pg.Exec(ctx, tx, "lock the restore", `SELECT pg_advisory_xact_lock(hashtextextended('restored', 0))`); err != nil {
			return err
		}
		settings, err := pg.One(ctx, tx, "read the last restore", pgx.RowTo[map[string]string], `SELECT `+restoreSettings)
		if err != nil {
			return err
		}
		now := w.db.Now()
		last := parseState(settings)
		declared := last
		recent := now.Add(-declareWithin)
		switch {
		case !at.IsZero() && !at.After(last.At):
			declared.Declared = true
		case !at.IsZero():
			declared = State{At: at, Declared: true}
			if last.PauseFrom.Before(at) && last.PauseUntil.After(at.Add(-declareWithin)) {
				declared.AsOf = last.PauseFrom
			}
		case last.PauseUntil.After(recent) && last.Suspected():
			declared = State{At: last.PauseUntil, AsOf: last.PauseFrom, Declared: true}
		case last.At.After(recent):
			declared.Declared = true
		default:
			declared = State{At: now, Declared: true}
		}
		declared.PauseFrom, declared.PauseUntil = last.PauseFrom, last.PauseUntil
		if done = (Declaration{State: declared, Changed: !last.Declared || !declared.At.Equal(last.At)}); !done.Changed {
			return nil
		}
		if err := w.addRestore(ctx, tx, declared); err != nil {
			return err
		}
		done.Repaired, err = pg.Exec(ctx, tx, "correct what was rejected since a restore", `
			UPDATE connections c SET problem = $1, problem_since = greatest(c.problem_since, $2)
			FROM grants g WHERE g.connection_id = c.id AND g.refreshed_at < $2 AND c.problem_since >= $2 AND c.problem = ANY ($3)
				AND c.disconnected_at IS NULL`, status.ProblemInterrupted, declared.At, []status.Problem{status.ProblemRejected})
		return err
	})
	return done, err
}

// Counts are connections that have access, by what a restore means for them.
type Counts struct {
	All         int64
	Since       int64 // refreshed since
	Due         int64 // not refreshed since, and due by then: what is lost has probably refreshed them
	Interrupted int64 // rejected since, by a provider that has refreshed them in what is lost
}

// Count counts connections by what the last restore means for them. It reads all grants.
func Count(ctx context.Context, q pg.Querier, r State) (Counts, error) {
	return pg.One(ctx, q, "count connections since a restore", pgx.RowToStructByPos[Counts], `
		SELECT count(*), count(*) FILTER (WHERE g.refreshed_at >= $1),
			count(*) FILTER (WHERE g.refreshed_at < $1 AND c.problem = '' AND g.renewable AND g.refresh_at <= $1),
			count(*) FILTER (WHERE g.refreshed_at < $1 AND c.problem = $2 AND c.problem_since >= $1)
		FROM grants g JOIN connections c ON c.id = g.connection_id
		WHERE c.disconnected_at IS NULL AND g.sealed IS NOT NULL`, r.At, status.ProblemInterrupted)
}

// RejectedAfterPause counts the connections that a provider rejects since the last pause and last refreshed before it.
func RejectedAfterPause(ctx context.Context, q pg.Querier, r State) (int64, error) {
	return pg.One(ctx, q, "count connections rejected after a pause", pgx.RowTo[int64], `
		SELECT count(*) FROM connections c JOIN grants g ON g.connection_id = c.id
		WHERE c.state IN ($1, $6) AND g.last_outcome = $2 AND g.refreshed_at < $3 AND g.refreshed_at >= coalesce($4, '-infinity'::timestamptz)
			AND coalesce(c.problem_since, c.failing_since) >= $5 AND c.disconnected_at IS NULL`,
		status.ProblemRejected, status.Rejected, r.PauseFrom, r.At, r.PauseUntil, status.Retrying)
}
