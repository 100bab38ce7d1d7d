// Package pg is the ground that every room with rows stands on: the pool, transactions, one clock, ids, secrets, helpers
// for queries, batches and rate limits. It knows Postgres and no table but rate limits' own.
package pg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DB is a handle to one database. Its methods are safe for concurrent use.
type DB struct {
	Pool    *pgxpool.Pool // the primary
	Clock   *Clock
	replica *replica // nil without one
}

// Options are the settings of Open beside the address.
type Options struct {
	MaxConns int32           // 0: what the address says (pool_max_conns), else 16
	Replica  string          // the address of a streaming standby, which need not answer yet; may be "": see Read
	Log      *slog.Logger    // says when the replica is read from and when not; may be nil
	Clock    *Clock          // nil: Postgres's time, carried by the host's monotonic clock
	Tracer   pgx.QueryTracer // may be nil
}

// Open connects to Postgres and measures its clock.
func Open(ctx context.Context, url string, o Options) (*DB, error) {
	config, err := ParseAddress(url)
	if err != nil {
		return nil, fmt.Errorf("DATABASE_URL %w", err)
	}
	d := &DB{Clock: o.Clock}
	if d.Pool, err = openPool(ctx, config, url, o, connectToPrimary); err != nil {
		return nil, err
	}
	if o.Replica != "" {
		if config, err = ParseAddress(o.Replica); err == nil {
			d.replica = &replica{state: ReplicaUnknown, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), time: time.Now}
			if o.Clock != nil {
				d.replica.time = o.Clock.Now
			}
			d.replica.pool, err = openPool(ctx, config, o.Replica, o, func(*pgxpool.Config, func()) {})
		}
		if err != nil {
			d.Pool.Close()
			return nil, fmt.Errorf("READ_DATABASE_URL %w", err)
		}
	}
	if d.Clock == nil {
		d.Clock = &Clock{}
		if err := d.MeasureClock(ctx); err != nil {
			d.Close()
			return nil, err
		}
	}
	return d, nil
}

// openPool makes a pool. restrict limits it to some servers; its second argument drops all connections.
func openPool(ctx context.Context, config *pgxpool.Config, url string, o Options, restrict func(config *pgxpool.Config, reset func())) (*pgxpool.Pool, error) {
	switch {
	case o.MaxConns > 0:
		config.MaxConns = o.MaxConns
	case !strings.Contains(url, "pool_max_conns"):
		config.MaxConns = 16 // pgx's default of four would let sixteen programs wait for each other
	}
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.ConnConfig.RuntimeParams["application_name"] = "patchbay"
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		registerTypes(conn)
		// These are no parameters of the start because pgbouncer refuses those that it does not know. No statement here is worth compiling,
		// which takes a second where the planner overestimates; statements are written for read committed, whatever the database's default
		// is; and a pool's connections are idle by design.
		_, err := conn.Exec(ctx, `SELECT set_config('jit', 'off', false), set_config('default_transaction_isolation', 'read committed', false),
			set_config('idle_session_timeout', '0', false)`)
		return err
	}
	var pool *pgxpool.Pool
	opened := make(chan struct{})
	reset := func() {
		<-opened
		pool.Reset()
	}
	restrict(config, reset)
	config.ConnConfig.Tracer = connectionResetter{reset}
	if o.Tracer != nil {
		config.ConnConfig.Tracer = multitracer.New(o.Tracer, connectionResetter{reset})
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	close(opened)
	return pool, nil
}

// Close waits for the connections in use and closes all.
func (d *DB) Close() {
	d.Pool.Close()
	if d.replica != nil {
		d.replica.pool.Close()
	}
}

// Now is the present time by the database's clock: see Clock.
func (d *DB) Now() time.Time { return d.Clock.Now() }

// Tx runs do in one transaction: committed when it returns nil, rolled back otherwise. It names the isolation, since a pooler may
// hand it a connection of the server's for which Open did not set it.
func (d *DB) Tx(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, d.Pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, do)
}

// RetryOnDeadlock is Tx, up to three times as long as Postgres breaks the transaction off because of another one.
func (d *DB) RetryOnDeadlock(ctx context.Context, do func(tx pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := d.Tx(ctx, do)
		if try == 3 || !isRetryable(err) {
			return err
		}
	}
}

// isRetryable reports whether Postgres aborted a transaction because of another one: deadlock_detected or serialization_failure.
func isRetryable(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "40P01" || pgErr.Code == "40001")
}
