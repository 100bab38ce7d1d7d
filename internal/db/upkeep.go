package db

import (
	"context"
	"fmt"
	"time"
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
		if _, err := d.Pool.Exec(ctx, one.sql, one.before); err != nil {
			return fmt.Errorf("drop what is old: %w", err)
		}
	}
	return nil
}
