package db

import (
	"context"
	"encoding/binary"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

const settingOldSeals = "seals.old"

// CountOldSeals counts the grants that an older key of the keyset has sealed, and stores the count for OldSeals. Each refresh seals
// with the first key, so the count falls to zero. With one key it counts nothing.
func (d *DB) CountOldSeals(ctx context.Context) error {
	if d.keyset.Len() < 2 {
		_, err := pg.Exec(ctx, d.Pool, "count old seals", `DELETE FROM settings WHERE name = $1`, settingOldSeals)
		return err
	}
	_, err := pg.Exec(ctx, d.Pool, "count old seals", `
		INSERT INTO settings (name, value) SELECT $1, count(*)::text FROM grants WHERE substring(sealed FROM 2 FOR 4) <> $2
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, settingOldSeals, binary.BigEndian.AppendUint32(nil, d.keyset.Primary()))
	return err
}

// OldSeals returns the last count of CountOldSeals.
func (d *DB) OldSeals(ctx context.Context) (int64, error) {
	return pg.One(ctx, d.Pool, "read old seals", pgx.RowTo[int64], `SELECT coalesce((SELECT value::bigint FROM settings WHERE name = $1), 0)`, settingOldSeals)
}
