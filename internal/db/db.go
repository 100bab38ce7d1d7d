// Package db keeps Patchbay's rows: one file per noun. Above it everything is plaintext, below it secrets are sealed.
// It knows Postgres and the keyset; it never calls a provider and knows no HTTP.
package db

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// DB is the database with the keyset that opens it. Its methods are safe for concurrent use.
type DB struct {
	*pg.DB
	Audit  *audit.Log
	Log    *slog.Logger // takes what is wrong with rows that give authority; set before the first use, it discards at first
	keyset *seal.Keyset
	look   look

	handouts *pg.Batcher[byKey, handoutRow]
	lookups  *pg.Batcher[byKey, lookup]
	links    *pg.Batcher[linkMade, struct{}]
	refused  refusedRows
}

// Open connects and proves that the keyset opens this database. The schema must be migrated.
func Open(ctx context.Context, url string, keyset *seal.Keyset, o pg.Options) (*DB, error) {
	ground, err := pg.Open(ctx, url, o)
	if err != nil {
		return nil, err
	}
	d := &DB{DB: ground, Audit: audit.NewLog(ground), keyset: keyset, Log: slog.New(slog.DiscardHandler)}
	d.handouts, d.lookups = pg.NewBatcher(64, 2, d.readHandouts), pg.NewBatcher(64, 2, d.lookUp)
	d.links = pg.NewBatcher(64, 2, d.addLinks)
	signed, err := d.checkKeyset(ctx)
	if err == nil && !signed {
		err = d.signRows(ctx)
	}
	if err == nil {
		err = d.seeKeys(ctx)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Ready returns an error unless the database takes writes and the keyset opens it.
func (d *DB) Ready(ctx context.Context) error {
	if err := d.Writable(ctx); err != nil {
		return err
	}
	_, err := d.checkKeyset(ctx)
	return err
}

// Jobs adds jobs in the transaction of the rows that cause them: a job exists once the transaction has committed, and never if it
// does not. jobs.Jobs is River's.
type Jobs interface {
	EnqueueMail(ctx context.Context, tx pgx.Tx, m Mail) error
	EnqueueBulk(ctx context.Context, tx pgx.Tx, bulk pg.ID, kind BulkKind) error // works on the bulk to its end
	// EnqueueRevocation has the provider asked to end the access of a connection that ended at a time, unless it has been by then. It does
	// nothing where the provider could not be asked without the grant.
	EnqueueRevocation(ctx context.Context, tx pgx.Tx, c Connection, at time.Time) error
}
