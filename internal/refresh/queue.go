package refresh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
)

// providerQueue claims grants of one provider and saves what came of them. All its leases together are never more than its
// limit, in all processes. What this process claims and saves at the same time shares round trips and commits.
type providerQueue struct {
	db        *db.DB
	ctx       context.Context // of the engine
	connector connectors.Connector
	info      connectors.Info
	limit     int           // leases at once, in all processes
	term      time.Duration // of a lease
	settle    time.Duration // how long after a lapsed lease a late answer is waited for; 0 where a replay is safe
	ready     atomic.Bool   // the rows of its slots exist
	ops       *pg.Batcher[op, opResult]

	slots      chan struct{} // one for each call that this process may make at once
	freed      chan struct{} // receives when a call ends
	callers    atomic.Int32  // that wait for a refresh on demand
	maxCallers int32         // how many may wait: maxCallers, fewer in tests
	polled     atomic.Int64  // when this process last looked for what is due, in seconds since 1970
	troubled   atomic.Bool   // an incident was open, or it was paused, when it was last looked at
	draining   atomic.Bool   // an incident has just ended: grants are claimed in order of expiry and at a bounded pace

	detecting  sync.Mutex
	undetected atomic.Bool // an attempt failed since the last detection of an incident began
}

func newQueue(life context.Context, o Options, c connectors.Connector) *providerQueue {
	q := &providerQueue{
		db: o.DB, ctx: life, connector: c, info: c.Info(), limit: o.Slots, term: o.Term, settle: o.Settle,
		slots: make(chan struct{}, o.Slots), freed: make(chan struct{}, 1), maxCallers: maxCallers,
	}
	if q.info.ReplaySafe {
		q.settle = 0
	}
	q.ops = pg.NewBatcher(maxOps, 1, q.commit)
	return q
}

// wake lets the sweep claim again.
func (q *providerQueue) wake() {
	select {
	case q.freed <- struct{}{}:
	default:
	}
}

// maxCallers is how many callers of one process may wait for refreshes of one provider at once.
const maxCallers = 1000

// admit counts one more waiting caller, which must call done. It returns errCrowded if there are too many.
func (q *providerQueue) admit() error {
	if q.callers.Add(1) > q.maxCallers {
		q.done()
		return errCrowded
	}
	return nil
}

func (q *providerQueue) done() { q.callers.Add(-1) }

// claimRequest asks for the lease of one connection.
type claimRequest struct {
	Connection pg.ID
	Attempt    int64 // only if no attempt has ended since this one; -1: in any case
	Force      bool  // even during an incident or a pause
}

// The pieces of every claim. $1 provider, $2 environment, $3 now, $4 lease, $5 its end, $6 the limit, $7 leases that lapsed
// before this have settled, $8 how many at most. A slot is a row: taken by the first to lock it, free when its time is over, so
// that no process waits for another's commit and none counts. Constant inner limits and arrays keep Postgres on the indexes
// whatever it believes about the tables. But for claimWanted, $9 is the keys to keep to, NULL for all: see keyring.KeyFilter.
var (
	claimOpen     = `NOT EXISTS (SELECT FROM providers p WHERE p.name = $1 AND p.environment = $2 AND (p.incident_since IS NOT NULL OR p.paused_until > $3))`
	claimLeasable = `g.provider = $1 AND g.environment = $2 AND g.sealed IS NOT NULL AND (g.lease_id IS NULL OR g.leased_until <= $7)`
	claimKnown    = claimLeasable + ` AND ($9::bytea[] IS NULL OR (` + keyring.UnknownSeal("g.sealed", "$9") + ` OR ` + keyring.UnknownSeal("g.late_grant", "$9") + `) IS NOT TRUE)`
	claimFrom     = `
		WITH free AS MATERIALIZED (
			SELECT ARRAY(SELECT s.slot FROM provider_slots s WHERE s.provider = $1 AND s.environment = $2 AND s.slot <= $6 AND s.busy_until <= $3
				ORDER BY s.slot LIMIT $8 FOR UPDATE SKIP LOCKED) AS n
		), took AS MATERIALIZED (
			SELECT ARRAY(SELECT chosen.connection_id FROM (`
	claimEnd = `
			) AS chosen LIMIT (SELECT cardinality(n) FROM free)) AS ids
		), held AS (
			UPDATE provider_slots s SET busy_until = $5, lease_id = $4 FROM free, took
			WHERE s.provider = $1 AND s.environment = $2 AND s.slot = ANY (free.n[1:cardinality(took.ids)])
		)
		UPDATE grants g SET lease_id = $4, leased_until = $5,
			last_outcome = CASE WHEN g.lease_id IS NULL THEN g.last_outcome ELSE 'lost' END,
			unanswered_generation = CASE WHEN g.lease_id IS NULL THEN g.unanswered_generation ELSE g.generation END
		FROM connections c
		WHERE c.id = g.connection_id AND g.connection_id = ANY ((SELECT ids FROM took)::uuid[])
		RETURNING ` + leaseColumns + `, (SELECT free.n[array_position(took.ids, g.connection_id)] FROM free, took)`

	claimDue = claimFrom + `
				SELECT g.connection_id FROM grants g
				WHERE ` + claimKnown + ` AND g.refresh_at <= $3 AND ` + claimOpen + `
				ORDER BY g.refresh_at LIMIT 200 FOR UPDATE OF g SKIP LOCKED` + claimEnd

	// After an incident: in order of expiry.
	claimDrain = claimFrom + `
				SELECT g.connection_id FROM grants g
				WHERE ` + claimKnown + ` AND g.refresh_at <= $3 AND ` + claimOpen + ` AND g.connection_id = ANY (ARRAY(
					SELECT first.connection_id FROM (
						SELECT g.connection_id, g.expires_at FROM grants g
						WHERE ` + claimKnown + ` AND g.refresh_at <= $3 ORDER BY g.refresh_at LIMIT 2000
					) AS first ORDER BY first.expires_at LIMIT 100))
				ORDER BY g.expires_at LIMIT 100 FOR UPDATE OF g SKIP LOCKED` + claimEnd

	claimWanted = claimFrom + `
				SELECT g.connection_id FROM unnest($9::uuid[], $10::bigint[], $11::boolean[]) AS w (id, attempts, force)
				JOIN grants g ON g.connection_id = w.id
				WHERE ` + claimLeasable + ` AND (w.attempts < 0 OR g.attempts = w.attempts) AND (w.force OR ` + claimOpen + `)
				LIMIT 200 FOR UPDATE OF g SKIP LOCKED` + claimEnd

	// During an incident or a pause: the latest refreshed, whose refresh token is the likeliest to be the provider's own, also
	// after a restore; then those whose last attempt failed, in turns, so that a few with a fault of their own cannot keep an
	// incident open; none that must wait for itself.
	claimProbe = claimFrom + `
				SELECT g.connection_id FROM grants g
				WHERE ` + claimKnown + ` AND g.connection_id = ANY (ARRAY(
					SELECT g.connection_id FROM grants g
					WHERE ` + claimKnown + ` AND g.renewable AND g.refresh_at IS NOT NULL AND (g.last_outcome <> 'later' OR g.refresh_at <= $3) ORDER BY g.refresh_at DESC LIMIT 200))
				ORDER BY CASE WHEN g.last_outcome NOT IN ('', 'ok') THEN g.refresh_at END NULLS FIRST, g.refreshed_at DESC NULLS LAST LIMIT 1 FOR UPDATE OF g SKIP LOCKED` + claimEnd
)

// op is one thing asked of a queue: a save, which may claim the next due grant in its place, or a claim.
type op struct {
	save  *save
	next  bool // with a save: claim one more that is due
	want  *claimRequest
	sql   string // another claim
	limit int    // and how many
}

type opResult struct {
	saved  bool // the save
	leases []*lease
}

// due claims at most so many grants that are due: no more than the provider has free slots, none during an incident or a
// pause. drain: in order of expiry.
func (q *providerQueue) due(ctx context.Context, limit int, drain bool) ([]*lease, error) {
	sql := claimDue
	if drain {
		sql = claimDrain
	}
	done, err := q.ops.Do(ctx, op{sql: sql, limit: limit})
	return done.leases, err
}

// probe claims the grant by which a provider in trouble is tried; nil when there is none.
func (q *providerQueue) probe(ctx context.Context) (*lease, error) {
	return q.claimOne(ctx, op{sql: claimProbe, limit: 1})
}

// claim claims one grant; nil when it cannot be had: leased, attempted since, gone, or no slot is free.
func (q *providerQueue) claim(ctx context.Context, want claimRequest) (*lease, error) {
	return q.claimOne(ctx, op{want: &want})
}

func (q *providerQueue) claimOne(ctx context.Context, o op) (*lease, error) {
	done, err := q.ops.Do(ctx, o)
	if err != nil || len(done.leases) == 0 {
		return nil, err
	}
	return done.leases[0], nil
}

// commit carries out many ops in one transaction: first the saves, which free slots, then the claims.
func (q *providerQueue) commit(ctx context.Context, ops []op) ([]opResult, error) {
	ctx, cancel := context.WithTimeout(ctx, q.term/4)
	defer cancel()
	if err := q.ensureSlots(ctx); err != nil {
		return nil, err
	}
	id, now := pg.NewID(), q.db.Now()
	until := now.Add(q.term)
	out := make([]opResult, len(ops))
	var b pgx.Batch
	claim := func(sql string, limit int, keep func([]*lease), more ...any) {
		args := append([]any{q.info.Name, q.info.Environment, now, id, until, q.limit, now.Add(-q.settle), limit}, more...)
		b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
			leases, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*lease, error) { return q.scanLease(row, id, until) })
			keep(leases)
			return err
		})
	}
	var saves, nexts, wants []int
	for i, o := range ops {
		switch {
		case o.save != nil:
			saves = append(saves, i)
			if o.next {
				nexts = append(nexts, i)
			}
		case o.want != nil:
			wants = append(wants, i)
		}
	}
	b.Queue(pg.GenericPlans)
	if len(saves) > 0 {
		all := make([]*save, len(saves))
		for k, i := range saves {
			all[k] = ops[i].save
		}
		q.queueSaves(&b, all, func(done []int) {
			for _, k := range done {
				out[saves[k]].saved = true
			}
		})
	}
	if len(wants) > 0 { // before what is merely due
		ids, attempts, force := make([]pg.ID, len(wants)), make([]int64, len(wants)), make([]bool, len(wants))
		for k, i := range wants {
			w := ops[i].want
			ids[k], attempts[k], force[k] = w.Connection, w.Attempt, w.Force
		}
		claim(claimWanted, len(wants), func(leases []*lease) {
			for k, i := range wants { // a grant that was wanted twice goes to one
				if at := slices.IndexFunc(leases, func(l *lease) bool { return l.Connection == ids[k] }); at >= 0 {
					out[i].leases = leases[at : at+1 : at+1]
					leases = slices.Delete(slices.Clone(leases), at, at+1)
				}
			}
		}, ids, attempts, force)
	}
	if len(nexts) > 0 {
		claim(claimDue, len(nexts), func(leases []*lease) {
			for k, l := range leases {
				out[nexts[k]].leases = []*lease{l}
			}
		}, q.db.KeyFilter())
	}
	for i, o := range ops {
		if o.sql != "" {
			claim(o.sql, o.limit, func(leases []*lease) { out[i].leases = leases }, q.db.KeyFilter())
		}
	}
	if err := q.db.Pool.SendBatch(ctx, &b).Close(); err != nil {
		if maybeCommitted(err) {
			go q.releaseUnacknowledged(id, until, ops)
		}
		return nil, fmt.Errorf("leases at %s: %w", q.info.Name, err)
	}
	return out, nil
}

// maybeCommitted says whether a transaction that returned this error may have been committed: Postgres's answer, or the connection, was lost.
func maybeCommitted(err error) bool {
	var pgErr *pgconn.PgError
	return !errors.As(err, &pgErr) || strings.HasPrefix(pgErr.Code, "57") // operator intervention: also after the commit
}

// releaseUnacknowledged releases the leases of a commit that was not acknowledged: nothing was sent under them. It asks until it finds them,
// since the commit may take effect later, as when it waits for a standby, and at most until they have lapsed.
func (q *providerQueue) releaseUnacknowledged(id pg.ID, until time.Time, ops []op) {
	before := q.db.Now() // a claim takes what is due, what is wanted or, as a probe, anything; an index leads to the first
	wanted := []pg.ID{}
	claims := false
	for _, o := range ops {
		claims = claims || o.next || o.want != nil || o.sql != ""
		if o.want != nil {
			wanted = append(wanted, o.want.Connection)
		}
		if o.sql == claimProbe {
			before = until.Add(100 * 365 * 24 * time.Hour)
		}
	}
	pauses := &backoff.ExponentialBackOff{InitialInterval: 100 * time.Millisecond, Multiplier: 2, MaxInterval: 2 * time.Second}
	pauses.Reset()
	for claims && q.db.Now().Before(until) && sleep(q.ctx, pauses.NextBackOff()) {
		ctx, cancel := context.WithTimeout(q.ctx, q.term/4)
		n, err := pg.Exec(ctx, q.db.Pool, "release leases", `
			WITH freed AS (
				UPDATE provider_slots SET busy_until = '-infinity', lease_id = NULL WHERE provider = $1 AND environment = $2 AND lease_id = $4
			)
			UPDATE grants SET lease_id = NULL, leased_until = NULL
			WHERE lease_id = $4 AND (provider = $1 AND environment = $2 AND refresh_at <= $3 OR connection_id = ANY ($5))`,
			q.info.Name, q.info.Environment, before, id, wanted)
		cancel()
		if err == nil && n > 0 {
			q.wake()
			return
		}
	}
}

// ensureSlots adds the rows of the queue's slots, once.
func (q *providerQueue) ensureSlots(ctx context.Context) error {
	if q.ready.Load() {
		return nil
	}
	_, err := pg.Exec(ctx, q.db.Pool, "make slots of "+q.info.Name, `
		INSERT INTO provider_slots (provider, environment, slot, busy_until) SELECT $1, $2, n, '-infinity' FROM generate_series(1, $3::integer) AS n ON CONFLICT DO NOTHING`,
		q.info.Name, q.info.Environment, q.limit)
	if err == nil {
		q.ready.Store(true)
	}
	return err
}
