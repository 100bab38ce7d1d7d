package db

import (
	"context"
	"fmt"
	"time"
)

// DropOld deletes sessions, links, limits and kept mail that have been over for a while.
func (d *DB) DropOld(ctx context.Context) error {
	now := d.Now()
	for _, one := range []struct {
		sql    string
		before time.Time
	}{
		{`DELETE FROM sessions WHERE expires_at < $1`, now},
		{`DELETE FROM sessions WHERE seen_at < $1`, now.Add(-SessionIdle)},
		{`DELETE FROM links WHERE expires_at < $1`, now.Add(-30 * 24 * time.Hour)},
		{`DELETE FROM limits WHERE tat < $1`, now.Add(-time.Hour)},
		{`DELETE FROM outbox WHERE at < $1`, now.Add(-7 * 24 * time.Hour)},
	} {
		if _, err := d.Pool.Exec(ctx, one.sql, one.before); err != nil {
			return fmt.Errorf("drop what is old: %w", err)
		}
	}
	return nil
}
