package db

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/search"
)

// purgeTimeout is how long one purge may take. The rest is done a minute later.
const purgeTimeout = 10 * time.Second

// PurgeSearchWords deletes the words of search's dictionary that no text has any more, in transactions of their own.
func (d *DB) PurgeSearchWords(ctx context.Context) error {
	for began, more := time.Now(), true; more && time.Since(began) < purgeTimeout; {
		err := d.Tx(ctx, func(tx pgx.Tx) (err error) {
			more, err = search.Forget(ctx, tx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// DropOld deletes rate limits that are full again, and mail that has been in the outbox for seven days.
func (d *DB) DropOld(ctx context.Context) error {
	now := d.Now()
	for _, one := range []struct {
		sql    string
		before time.Time
	}{
		{`DELETE FROM rate_limits WHERE arrival_at < $1`, now.Add(-time.Hour)},
		{`DELETE FROM outbox WHERE at < $1`, now.Add(-7 * 24 * time.Hour)},
	} {
		if _, err := pg.Exec(ctx, d.Pool, "delete old rows", one.sql, one.before); err != nil {
			return err
		}
	}
	return nil
}
