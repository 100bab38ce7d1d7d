package db

import (
	"context"
	"time"

	"patchbay/internal/pg"
)

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
