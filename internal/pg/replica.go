package pg

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// MaxLag is how far the replica may be behind the primary for anything to be read from it.
const MaxLag = 10 * time.Second

const (
	replicaInterval = time.Second     // between two comparisons of the replica with the primary
	replicaTimeout  = 2 * time.Second // for what is asked of the replica; the primary is asked then
)

// ReplicaState says whether the replica is read from, and if not, why.
type ReplicaState string

// The states of a replica. ReplicaNone is that of a database without READ_DATABASE_URL.
const (
	ReplicaNone        ReplicaState = ""
	ReplicaUsed        ReplicaState = "used"
	ReplicaUnknown     ReplicaState = "not-compared" // with where the primary was within MaxLag: the process has just begun, or the primary is away
	ReplicaLags        ReplicaState = "lagging"      // by more than MaxLag
	ReplicaNotStandby  ReplicaState = "no-standby"   // of this primary's database: it is another's, follows another timeline, or was promoted
	ReplicaUnreachable ReplicaState = "away"         // it does not answer within two seconds
)

// replica is a streaming standby of the primary. It is never trusted by itself: the connection that a read uses is first asked how far
// it has replayed, and that is compared with where the primary was within MaxLag.
type replica struct {
	pool      *pgxpool.Pool
	log       *slog.Logger
	time      func() time.Time // the host's monotonic time
	fallbacks atomic.Int64     // reads that were done on the primary instead

	mu      sync.Mutex
	primary []position // of the primary within MaxLag, oldest first
	state   ReplicaState
}

// position is how far a server has written or replayed.
type position struct {
	cluster  string // its system identifier and the database's oid
	timeline int64
	lsn      int64
	at       time.Time // of a primary: what was committed by then is at lsn or before
}

var errReplicaUnfit = errors.New("the replica is not fit to be read from")

type fromReplica struct{ failed atomic.Bool }

type fromReplicaKey struct{}

// FromReplica returns a context in which Read may read from the replica: for lists that may be up to MaxLag old, and never for what
// the same person has just changed. Once the replica has failed, the context's further reads are the primary's.
func FromReplica(ctx context.Context) context.Context {
	return context.WithValue(ctx, fromReplicaKey{}, &fromReplica{})
}

// Read reads with do, from the replica where ctx comes from FromReplica and the replica is fit, from the primary everywhere else. If
// the replica fails, whatever the reason, do is called again with the primary, at the latest after two seconds.
func Read[T any](ctx context.Context, d *DB, do func(ctx context.Context, q Querier) (T, error)) (T, error) {
	may, ok := ctx.Value(fromReplicaKey{}).(*fromReplica)
	if d.replica == nil || !ok || may.failed.Load() {
		return do(ctx, d.Pool)
	}
	if d.replica.currentState() == ReplicaUsed {
		var read T
		err := d.replica.query(ctx, func(ctx context.Context, q Querier) (err error) {
			read, err = do(ctx, q)
			return err
		})
		if err == nil || ctx.Err() != nil {
			return read, err
		}
	}
	may.failed.Store(true)
	d.replica.fallbacks.Add(1)
	return do(ctx, d.Pool)
}

// ReplicaState returns whether the replica is read from.
func (d *DB) ReplicaState() ReplicaState {
	if d.replica == nil {
		return ReplicaNone
	}
	return d.replica.currentState()
}

// ReplicaFallbacks returns how many reads that the replica might have done were done on the primary.
func (d *DB) ReplicaFallbacks() int64 { return d.replica.fallbacks.Load() }

// WatchReplica compares the replica with the primary every second until ctx is done. Without it nothing is read from the replica. It
// returns at once if there is none.
func (d *DB) WatchReplica(ctx context.Context) {
	if d.replica == nil {
		return
	}
	for ctx.Err() == nil {
		_, _ = d.CompareReplica(ctx) // what changes is logged
		select {
		case <-ctx.Done():
		case <-time.After(replicaInterval):
		}
	}
}

// CompareReplica compares the replica with the primary and decides whether it is read from. The error is what Postgres said, if
// anything.
func (d *DB) CompareReplica(ctx context.Context) (ReplicaState, error) {
	r := d.replica
	short, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	here := position{at: r.time()}
	// The timeline is the beginning of the name of the file that is being written.
	err := d.Pool.QueryRow(short, `
		SELECT concat_ws('/', system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())),
			('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::bigint, (pg_current_wal_insert_lsn() - '0/0')::bigint
		FROM pg_control_system()`).Scan(&here.cluster, &here.timeline, &here.lsn)
	if err == nil {
		r.recordPrimary(here)
	}
	err = errors.Join(err, r.query(ctx, func(context.Context, Querier) error {
		r.setState(ctx, ReplicaUsed, nil)
		return nil
	}))
	return r.currentState(), err
}

// query calls do with a connection to the replica if it is fit, within replicaTimeout. It changes the state if the replica is unfit or
// unreachable.
func (r *replica) query(ctx context.Context, do func(ctx context.Context, q Querier) error) error {
	short, cancel := context.WithTimeout(ctx, replicaTimeout)
	defer cancel()
	err := r.queryIfFit(short, do)
	if err != nil && ctx.Err() == nil && (short.Err() != nil || Unavailable(err)) {
		r.setState(ctx, ReplicaUnreachable, err)
	}
	return err
}

func (r *replica) queryIfFit(ctx context.Context, do func(ctx context.Context, q Querier) error) error {
	conn, err := r.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	// One transaction: a pooler may lead the next one to another standby.
	return pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var there position
		var standby bool
		// The timeline of the last restart point, or of what was written since: after a failover it follows within minutes.
		if err := tx.QueryRow(ctx, `
			SELECT pg_is_in_recovery(), concat_ws('/', system_identifier, (SELECT oid FROM pg_database WHERE datname = current_database())),
				greatest(c.timeline_id, r.min_recovery_end_timeline), coalesce((pg_last_wal_replay_lsn() - '0/0')::bigint, 0)
			FROM pg_control_system(), pg_control_checkpoint() c, pg_control_recovery() r`).Scan(&standby, &there.cluster, &there.timeline, &there.lsn); err != nil {
			return err
		}
		state := ReplicaNotStandby
		if standby {
			state = r.compare(there)
		}
		if state != ReplicaUsed {
			r.setState(ctx, state, nil)
			return errReplicaUnfit
		}
		return do(ctx, tx)
	})
}

// recordPrimary notes the primary's position, and drops those of another one.
func (r *replica) recordPrimary(here position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.primary) > 0 && (here.at.Sub(r.primary[0].at) > MaxLag || r.primary[0].cluster != here.cluster || r.primary[0].timeline != here.timeline) {
		r.primary = r.primary[1:]
	}
	r.primary = append(r.primary, here)
}

// compare compares a standby with the primary: it must have replayed what the primary had written at some time within MaxLag.
func (r *replica) compare(there position) ReplicaState {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.time()
	for _, here := range r.primary {
		switch {
		case now.Sub(here.at) > MaxLag:
			continue
		case there.cluster != here.cluster || there.timeline != here.timeline:
			return ReplicaNotStandby
		case there.lsn >= here.lsn:
			return ReplicaUsed
		case now.Sub(here.at) < MaxLag-2*replicaInterval:
			return ReplicaUnknown // it is not known yet how far it is behind
		}
		return ReplicaLags // later positions are further on
	}
	return ReplicaUnknown
}

func (r *replica) currentState() ReplicaState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.state
}

// setState changes the state and logs a change, with the error of a replica that is unreachable.
func (r *replica) setState(ctx context.Context, state ReplicaState, err error) {
	r.mu.Lock()
	changed := r.state != state
	r.state = state
	r.mu.Unlock()
	switch {
	case !changed:
	case state == ReplicaUsed:
		r.log.InfoContext(ctx, "lists are read from the replica")
	default:
		r.log.WarnContext(ctx, "lists are read from the primary, not from the replica", "why", string(state), "err", err)
	}
}
