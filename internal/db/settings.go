package db

import (
	"context"
	"encoding/binary"
	"fmt"
)

const settingOldSeals = "seals.old"

// CountOldSeals counts the grants that an older key of the keyset has sealed, and stores the count for OldSeals. Each refresh seals
// with the first key, so the count falls to zero. With one key it counts nothing.
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

// OldSeals returns the last count of CountOldSeals.
func (d *DB) OldSeals(ctx context.Context) (int64, error) {
	var n int64
	err := d.Pool.QueryRow(ctx, `SELECT coalesce((SELECT value::bigint FROM settings WHERE name = $1), 0)`, settingOldSeals).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("read old seals: %w", err)
	}
	return n, nil
}
