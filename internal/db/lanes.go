package db

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// Lane is the way to one provider: all its leases together are never more than its limit, in all processes. What this process
// claims and saves there at the same time shares round trips and commits.
type Lane struct {
	leases                *Leases
	Provider, Environment string
	limit                 int
	settle                time.Duration
	ready                 atomic.Bool // its slots are there
	steps                 *pg.Batcher[step, stepped]
}

// Lane returns the way to one provider. replaySafe: an attempt whose answer was lost may be repeated at once.
func (l *Leases) Lane(provider, environment string, limit int, replaySafe bool) *Lane {
	n := &Lane{leases: l, Provider: provider, Environment: environment, limit: limit, settle: l.o.Settle}
	if replaySafe {
		n.settle = 0
	}
	n.steps = pg.NewBatcher(64, n.commit)
	return n
}

// Want asks for one connection's lease.
type Want struct {
	Connection pg.ID
	Attempt    int64 // only if no attempt has ended since this one; -1: whatever happened
	Regardless bool  // even during an incident or a pause
}

// The pieces of every claim. $1 provider, $2 environment, $3 now, $4 lease, $5 its end, $6 the lane's limit, $7 lapsed leases that ended
// before this have settled, $8 how many at most. A slot is a row: taken by whoever locks it first, free when its time is over, so that
// no process waits for another's commit and none counts. Constant inner limits and arrays keep Postgres on the indexes whatever
// it believes about the tables.
const (
	claimOpen = `NOT EXISTS (SELECT FROM providers p WHERE p.name = $1 AND p.environment = $2 AND (p.incident_since IS NOT NULL OR p.paused_until > $3))`
	claimAble = `g.provider = $1 AND g.environment = $2 AND g.sealed IS NOT NULL AND (g.lease_id IS NULL OR g.leased_until <= $7)`
	claimFrom = `
		WITH free AS MATERIALIZED (
			SELECT ARRAY(SELECT s.n FROM slots s WHERE s.provider = $1 AND s.environment = $2 AND s.n <= $6 AND s.until <= $3
				ORDER BY s.n LIMIT $8 FOR UPDATE SKIP LOCKED) AS n
		), took AS MATERIALIZED (
			SELECT ARRAY(SELECT chosen.connection_id FROM (`
	claimEnd = `
			) AS chosen LIMIT (SELECT cardinality(n) FROM free)) AS ids
		), held AS (
			UPDATE slots s SET until = $5, lease_id = $4 FROM free, took
			WHERE s.provider = $1 AND s.environment = $2 AND s.n = ANY (free.n[1:cardinality(took.ids)])
		)
		UPDATE grants g SET lease_id = $4, leased_until = $5,
			last_class = CASE WHEN g.lease_id IS NULL THEN g.last_class ELSE 'lost' END,
			lost_generation = CASE WHEN g.lease_id IS NULL THEN g.lost_generation ELSE g.generation END
		FROM connections c
		WHERE c.id = g.connection_id AND g.connection_id = ANY ((SELECT ids FROM took)::uuid[])
		RETURNING g.connection_id, c.merchant_id, g.provider, g.environment, g.sealed, g.spare, g.spare_generation, g.generation, g.epoch, g.attempt,
			g.failures, g.expires_at, g.used_at, g.last_class, g.lost_generation, c.problem, c.failing_since,
			(SELECT free.n[array_position(took.ids, g.connection_id)] FROM free, took)`

	claimDue = claimFrom + `
				SELECT g.connection_id FROM grants g
				WHERE ` + claimAble + ` AND g.refresh_at <= $3 AND ` + claimOpen + `
				ORDER BY g.refresh_at LIMIT 200 FOR UPDATE OF g SKIP LOCKED` + claimEnd

	// After an incident: in order of expiry.
	claimDrain = claimFrom + `
				SELECT g.connection_id FROM grants g
				WHERE ` + claimAble + ` AND g.refresh_at <= $3 AND ` + claimOpen + ` AND g.connection_id = ANY (ARRAY(
					SELECT first.connection_id FROM (
						SELECT g.connection_id, g.expires_at FROM grants g
						WHERE ` + claimAble + ` AND g.refresh_at <= $3 ORDER BY g.refresh_at LIMIT 2000
					) AS first ORDER BY first.expires_at LIMIT 100))
				ORDER BY g.expires_at LIMIT 100 FOR UPDATE OF g SKIP LOCKED` + claimEnd

	claimWanted = claimFrom + `
				SELECT g.connection_id FROM unnest($9::uuid[], $10::bigint[], $11::boolean[]) AS w (id, attempt, regardless)
				JOIN grants g ON g.connection_id = w.id
				WHERE ` + claimAble + ` AND (w.attempt < 0 OR g.attempt = w.attempt) AND (w.regardless OR ` + claimOpen + `)
				LIMIT 200 FOR UPDATE OF g SKIP LOCKED` + claimEnd

	// During an incident: one of the soonest to expire, those that were refused last.
	claimProbe = claimFrom + `
				SELECT g.connection_id FROM grants g
				WHERE ` + claimAble + ` AND g.connection_id = ANY (ARRAY(
					SELECT first.connection_id FROM (
						SELECT g.connection_id, g.expires_at, g.last_class FROM grants g
						WHERE ` + claimAble + ` AND g.refresh_at IS NOT NULL ORDER BY g.refresh_at LIMIT 200
					) AS first ORDER BY first.last_class IN ('refused', 'ours'), first.expires_at LIMIT 3))
				ORDER BY random() LIMIT 1 FOR UPDATE OF g SKIP LOCKED` + claimEnd

	freeSlot = `UPDATE slots SET until = '-infinity', lease_id = NULL WHERE provider = $1 AND environment = $2 AND n = $3 AND lease_id = $4`
)

// step is one thing asked of a lane: a save, which may take the next due grant in its place, or a claim.
type step struct {
	save *save
	next bool // with a save: claim one more that is due
	want *Want
	sql  string // another claim
	most int    // and how many
}

type stepped struct {
	landed bool // the save
	leases []*Lease
}

// Due claims at most this many grants that are due: no more than the provider has free slots, none during an incident or a
// pause. drain: in order of expiry.
func (n *Lane) Due(ctx context.Context, most int, drain bool) ([]*Lease, error) {
	sql := claimDue
	if drain {
		sql = claimDrain
	}
	done, err := n.steps.Do(ctx, step{sql: sql, most: most})
	return done.leases, err
}

// Probe claims the grant by which a provider in trouble is tried; nil when there is none.
func (n *Lane) Probe(ctx context.Context) (*Lease, error) {
	return n.one(ctx, step{sql: claimProbe, most: 1})
}

// Claim claims one grant; nil when it cannot be had: leased, attempted since, gone, or no slot is free.
func (n *Lane) Claim(ctx context.Context, want Want) (*Lease, error) {
	return n.one(ctx, step{want: &want})
}

func (n *Lane) one(ctx context.Context, s step) (*Lease, error) {
	done, err := n.steps.Do(ctx, s)
	if err != nil || len(done.leases) == 0 {
		return nil, err
	}
	return done.leases[0], nil
}

// commit carries out many steps at once: first the saves, which free slots, then the claims.
func (n *Lane) commit(ctx context.Context, steps []step) ([]stepped, error) {
	ctx, cancel := context.WithTimeout(ctx, n.leases.o.Term/4)
	defer cancel()
	if err := n.makeReady(ctx); err != nil {
		return nil, err
	}
	d, id, now := n.leases.d, pg.NewID(), n.leases.d.Now()
	until := now.Add(n.leases.o.Term)
	out := make([]stepped, len(steps))
	var saves, nexts, wants []int
	var b pgx.Batch
	claim := func(sql string, most int, keep func([]*Lease), more ...any) {
		args := append([]any{n.Provider, n.Environment, now, id, until, n.limit, now.Add(-n.settle), most}, more...)
		b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
			leases, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Lease, error) { return d.scanLease(row, id, until) })
			keep(leases)
			return err
		})
	}
	for i, s := range steps {
		switch {
		case s.save != nil:
			saves = append(saves, i)
			if s.next {
				nexts = append(nexts, i)
			}
		case s.want != nil:
			wants = append(wants, i)
		}
	}
	// Planning would cost as much as doing: these statements have one good plan whatever they are given.
	b.Queue(`SELECT set_config('plan_cache_mode', 'force_generic_plan', true)`)
	if len(saves) > 0 {
		queueSaves(&b, steps, saves, out)
	}
	if len(wants) > 0 { // before what is merely due
		ids, attempts, regardless := make([]pg.ID, len(wants)), make([]int64, len(wants)), make([]bool, len(wants))
		for k, i := range wants {
			w := steps[i].want
			ids[k], attempts[k], regardless[k] = w.Connection, w.Attempt, w.Regardless
		}
		claim(claimWanted, len(wants), func(leases []*Lease) {
			for k, i := range wants { // a grant that was wanted twice goes to one
				if at := slices.IndexFunc(leases, func(l *Lease) bool { return l.Connection == ids[k] }); at >= 0 {
					out[i].leases = leases[at : at+1 : at+1]
					leases = slices.Delete(slices.Clone(leases), at, at+1)
				}
			}
		}, flat(ids), attempts, regardless)
	}
	if len(nexts) > 0 {
		claim(claimDue, len(nexts), func(leases []*Lease) {
			for k, l := range leases {
				out[nexts[k]].leases = []*Lease{l}
			}
		})
	}
	for i, s := range steps {
		if s.sql != "" {
			claim(s.sql, s.most, func(leases []*Lease) { out[i].leases = leases })
		}
	}
	if err := d.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("leases at %s: %w", n.Provider, err)
	}
	return out, nil
}

// makeReady sees to it that the lane's slots are there, once.
func (n *Lane) makeReady(ctx context.Context) error {
	if n.ready.Load() {
		return nil
	}
	_, err := n.leases.d.Pool.Exec(ctx, `
		INSERT INTO slots (provider, environment, n, until) SELECT $1, $2, n, '-infinity' FROM generate_series(1, $3::integer) AS n ON CONFLICT DO NOTHING`,
		n.Provider, n.Environment, n.limit)
	if err != nil {
		return fmt.Errorf("make slots of %s: %w", n.Provider, err)
	}
	n.ready.Store(true)
	return nil
}
