package db

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"patchbay/internal/status"

	"github.com/jackc/pgx/v5"
)

const (
	settingRetention = "events.months"
	settingOldSeals  = "seals.old"
)

// Retention is for how many whole months events are kept before the present one. 0, which it is until an admin
// says otherwise, keeps all.
func (d *DB) Retention(ctx context.Context) (int, error) {
	var value string
	err := d.Pool.QueryRow(ctx, `SELECT value FROM settings WHERE name = $1`, settingRetention).Scan(&value)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read setting: %w", err)
	}
	months, err := strconv.Atoi(value)
	if err != nil {
		return 0, fmt.Errorf("setting %s: %w", settingRetention, err)
	}
	return months, nil
}

// SetRetention says for how many months events are kept, 0 for ever. Upkeep drops what is older.
func (d *DB) SetRetention(ctx context.Context, by By, months int) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
			settingRetention, strconv.Itoa(months))
		if err != nil {
			return fmt.Errorf("set retention: %w", err)
		}
		e := Event{Kind: status.SettingRetentionSet, Note: strconv.Itoa(months)}
		return d.addEvent(ctx, tx, *e.by(by))
	})
}

// KeptSince is when the events begin that are kept for so many whole months before the present one: what is older goes.
// The zero time when months is 0 and all are kept.
func (d *DB) KeptSince(months int) time.Time {
	if months <= 0 {
		return time.Time{}
	}
	now := d.Now()
	return time.Date(now.Year(), now.Month()-time.Month(months), 1, 0, 0, 0, 0, time.UTC)
}

// OldestEvent is when the first event happened that is still there; the zero time when there is none.
func (d *DB) OldestEvent(ctx context.Context) (time.Time, error) {
	var at time.Time
	if err := d.Pool.QueryRow(ctx, `SELECT (SELECT at FROM events ORDER BY at, id LIMIT 1)`).Scan(&at); err != nil {
		return time.Time{}, fmt.Errorf("read the oldest event: %w", err)
	}
	return at, nil
}

// CountEventsBefore counts the events that are older than that, up to most of them.
func (d *DB) CountEventsBefore(ctx context.Context, before time.Time, most int) (n int, err error) {
	err = d.Pool.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM events WHERE at < $1 ORDER BY at, id LIMIT $2) AS old`, before, most).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count old events: %w", err)
	}
	return n, nil
}

// CountOldSeals counts the grants that an older key of the keyset has sealed, and keeps the count for OldSeals. Each
// renewal seals with the first key, so that the count falls by itself. With one key there is nothing to count.
func (d *DB) CountOldSeals(ctx context.Context) error {
	if d.keyset.Len() < 2 {
		if _, err := d.Pool.Exec(ctx, `DELETE FROM settings WHERE name = $1`, settingOldSeals); err != nil {
			return fmt.Errorf("count old seals: %w", err)
		}
		return nil
	}
	_, err := d.Pool.Exec(ctx, `
		INSERT INTO settings (name, value) SELECT $1, count(*)::text FROM grants WHERE substring(sealed FROM 2 FOR 4) <> $2
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, settingOldSeals, binary.BigEndian.AppendUint32(nil, d.keyset.Primary()))
	if err != nil {
		return fmt.Errorf("count old seals: %w", err)
	}
	return nil
}

// OldSeals is what CountOldSeals found last.
func (d *DB) OldSeals(ctx context.Context) (int64, error) {
	var n int64
	err := d.Pool.QueryRow(ctx, `SELECT coalesce((SELECT value::bigint FROM settings WHERE name = $1), 0)`, settingOldSeals).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("read old seals: %w", err)
	}
	return n, nil
}
