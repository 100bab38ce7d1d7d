// Package db keeps Patchbay's rows: one file per noun. Above it everything is plaintext, below it secrets are sealed.
// It knows Postgres and the keyset; it never calls a provider and knows no HTTP.
package db

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNotFound: there is no such row, or it is not the asker's. The two are never told apart.
var ErrNotFound = errors.New("not found")

// DB is the database with the keyset that opens it. Its methods may be called from many goroutines.
type DB struct {
	pool      *pgxpool.Pool
	keyset    *Keyset
	clock     *Clock
	passwords *passwords
}

// Options are what Open may be told beside the address.
type Options struct {
	MaxConns int32  // 0: what the address says (pool_max_conns), else 16
	Clock    *Clock // nil: Postgres's time, carried by the host's monotonic clock
}

// Open connects, measures the clock and proves that the keyset opens this database. The schema must be migrated.
func Open(ctx context.Context, url string, keyset *Keyset, o Options) (*DB, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("DATABASE_URL is not a Postgres address") // err would quote the password
	}
	switch {
	case o.MaxConns > 0:
		config.MaxConns = o.MaxConns
	case !strings.Contains(url, "pool_max_conns"):
		config.MaxConns = 16 // pgx's default of four would let sixteen programs wait for each other
	}
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.ConnConfig.RuntimeParams["application_name"] = "patchbay"
	config.AfterConnect = registerIDs
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	d := &DB{pool: pool, keyset: keyset, clock: o.Clock, passwords: newPasswords()}
	if d.clock == nil {
		d.clock = &Clock{}
		if err := d.MeasureClock(ctx); err != nil {
			pool.Close()
			return nil, err
		}
	}
	if err := d.checkKeyset(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return d, nil
}

// Close waits for connections in use and closes all.
func (d *DB) Close() { d.pool.Close() }

// Pool is for rooms that bring their own tables (River) and for figures about the pool.
func (d *DB) Pool() *pgxpool.Pool { return d.pool }

// Now is the time by which everything is decided: see Clock.
func (d *DB) Now() time.Time { return d.clock.Now() }

// Ping asks whether the database answers.
func (d *DB) Ping(ctx context.Context) error { return d.pool.Ping(ctx) }

// Ready says whether the database answers, its schema is there and the keyset opens it.
func (d *DB) Ready(ctx context.Context) error { return d.checkKeyset(ctx) }

// An Enqueue puts a job beside the rows that caused it, in the same transaction. Wired to River by cmd/web.
type Enqueue func(ctx context.Context, tx pgx.Tx, job any) error

// querier is what a pool, a connection and a transaction have in common.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// tx runs do in one transaction: committed when it returns nil, undone otherwise.
func (d *DB) tx(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, d.pool, do)
}

// patiently runs a transaction again when Postgres broke it off because two waited for each other.
func (d *DB) patiently(ctx context.Context, do func(tx pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := d.tx(ctx, do)
		var pg *pgconn.PgError
		if try == 3 || !errors.As(err, &pg) || pg.Code != "40P01" {
			return err
		}
	}
}

// notFound turns pgx's word for no row into ours and passes everything else on.
func notFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

// violates says whether err is a breach of the named constraint or unique index.
func violates(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.ConstraintName == constraint
}

// Secret is 32 random bytes that are shown once and known afterwards only by their hash.
type Secret string

// NewSecret makes one, in letters that fit an address and a cookie.
func NewSecret() Secret {
	b := make([]byte, 32)
	rand.Read(b) // never fails: it ends the program instead
	return Secret(base64.RawURLEncoding.EncodeToString(b))
}

// Hash is what is stored of a secret.
func (s Secret) Hash() []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// String keeps a secret out of prints; convert it to string on purpose.
func (Secret) String() string { return hidden }

// GoString keeps %#v from printing a secret.
func (Secret) GoString() string { return hidden }

const hidden = "•••"
