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

// DropEventMonths drops the events of whole months that ended more than keep months ago, and returns how many months
// that were. Zero keeps everything.
func (d *DB) DropEventMonths(ctx context.Context, keep int) (dropped int, err error) {
	if keep <= 0 {
		return 0, nil
	}
	err = d.Pool.QueryRow(ctx, `SELECT events_drop_before(($1::timestamptz AT TIME ZONE 'UTC' - make_interval(months => $2))::date)`, d.Now(), keep).Scan(&dropped)
	if err != nil {
		return 0, fmt.Errorf("drop months of events: %w", err)
	}
	return dropped, nil
}
