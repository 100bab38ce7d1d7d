// Package db keeps Patchbay's rows: one file per noun. Above it everything is plaintext, below it secrets are sealed.
// It knows Postgres and the keyset; it never calls a provider and knows no HTTP.
package db

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/keyring"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// DB is the database with the keyset that opens it. Its methods are safe for concurrent use.
type DB struct {
	*keyring.Keyring

	tokenReads *pg.Batcher[keyRequest, tokenRow]
	lookups    *pg.Batcher[keyRequest, keyResult]
	links      *pg.Batcher[newLink, struct{}]
}

// Open connects and proves that the keyset opens this database. The schema must be migrated.
func Open(ctx context.Context, url string, keyset *seal.Keyset, o pg.Options) (*DB, error) {
	ground, err := keyring.Open(ctx, url, keyset, o)
	if err != nil {
		return nil, err
	}
	d := &DB{Keyring: ground}
	d.tokenReads, d.lookups = pg.NewBatcher(64, 2, d.readTokenRows), pg.NewBatcher(64, 1, d.readByKeys)
	d.links = pg.NewBatcher(64, 2, d.addLinks)
	return d, nil
}

// Jobs adds jobs in the transaction of the rows that cause them: a job exists once the transaction has committed, and never if it
// does not. jobs.Jobs is River's.
type Jobs interface {
	notify.Queue
	// EnqueueRevocation has the provider asked to end the access of a connection that ended at a time, unless it has been by then. It does
	// nothing where the provider could not be asked without the grant.
	EnqueueRevocation(ctx context.Context, tx pgx.Tx, c Connection, at time.Time) error
}
