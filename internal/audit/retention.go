package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/status"
)

const settingRetention = "events.months"

// MinMonths is the shortest retention: the database drops none of the three whole months before the present one, whatever the
// setting says (events_drop_before).
const MinMonths = 3

// Retention returns for how many whole months before the present one events are kept. 0, the default, keeps all.
func (l *Log) Retention(ctx context.Context) (int, error) {
	value, err := pg.One(ctx, l.db.Pool, "read setting", pgx.RowTo[string], `SELECT value FROM settings WHERE name = $1`, settingRetention)
	if errors.Is(err, pg.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	months, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("setting %s: %w", settingRetention, err)
	}
	return months, nil
}

// SetRetention sets for how many whole months events are kept, 0 for all. DropMonths deletes older ones.
func (l *Log) SetRetention(ctx context.Context, by Actor, months int) error {
	return l.db.Tx(ctx, func(tx pgx.Tx) error {
		_, err := pg.Exec(ctx, tx, "set retention", `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
			settingRetention, strconv.Itoa(months))
		if err != nil {
			return err
		}
		return l.Add(ctx, tx, Event{Kind: status.SettingRetentionSet, Actor: by, Note: strconv.Itoa(months)})
	})
}

// RetentionCutoff returns the time before which events are deleted if so many whole months before the present one are kept; zero if
// all are.
func (l *Log) RetentionCutoff(months int) time.Time {
	if months <= 0 {
		return time.Time{}
	}
	now := l.db.Now()
	return time.Date(now.Year(), now.Month()-time.Month(months), 1, 0, 0, 0, 0, time.UTC)
}

// Oldest returns the time of the oldest event; zero if there is none.
func (l *Log) Oldest(ctx context.Context) (time.Time, error) {
	return pg.One(ctx, l.db.Pool, "read the oldest event", pgx.RowTo[time.Time], `SELECT (SELECT at FROM events ORDER BY at, id LIMIT 1)`)
}

// CountBefore counts the events before a time, up to most of them.
func (l *Log) CountBefore(ctx context.Context, before time.Time, limit int) (int, error) {
	return pg.One(ctx, l.db.Pool, "count old events", pgx.RowTo[int],
		`SELECT count(*) FROM (SELECT FROM events WHERE at < $1 ORDER BY at, id LIMIT $2) AS old`, before, limit)
}

// DropMonths drops the events of whole months that ended more than keep months ago, and returns how many months
// that were. Zero keeps everything. The database keeps more if the setting of SetRetention says so.
func (l *Log) DropMonths(ctx context.Context, keep int) (dropped int, err error) {
	if keep <= 0 {
		return 0, nil
	}
	return pg.One(ctx, l.db.Pool, "drop months of events", pgx.RowTo[int],
		`SELECT events_drop_before(($1::timestamptz AT TIME ZONE 'UTC' - make_interval(months => $2))::date)`, l.db.Now(), keep)
}

// MonthsAhead returns how many of the next three months have a partition that is attached, without a gap. MakeMonths keeps it at three;
// at zero nothing can be saved once the month is over.
func (l *Log) MonthsAhead(ctx context.Context) (int, error) {
	return pg.One(ctx, l.db.Pool, "look for months of events", pgx.RowTo[int], `
		SELECT count(*) FILTER (WHERE made) FROM (
			SELECT bool_and(EXISTS (SELECT FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
				WHERE i.inhparent = 'events'::regclass AND NOT i.inhdetachpending
				AND c.relname = 'events_' || to_char(date_trunc('month', $1::timestamptz AT TIME ZONE 'UTC') + make_interval(months => m), 'YYYY_MM')))
				OVER (ORDER BY m) AS made FROM generate_series(1, 3) AS m) AS ahead`, l.db.Now())
}

// MakeMonths makes the partitions of this month and the next three. It attaches those that were detached.
func (l *Log) MakeMonths(ctx context.Context) error {
	_, err := pg.Exec(ctx, l.db.Pool, "make months of events",
		`SELECT events_make_month(($1::timestamptz AT TIME ZONE 'UTC' + make_interval(months => m))::date) FROM generate_series(0, 3) AS m`, l.db.Now())
	return err
}
