package db

import (
	"context"
	"strconv"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

const settingOldSeals = "seals.old"

// oldSeals selects what keeps a key in the keyset that is not $1: what it sealed, and the rows that it signed.
const oldSeals = `
	SELECT (SELECT count(*) FROM grants WHERE substring(sealed FROM 2 FOR 4) <> $1) + (SELECT count(*) FROM grants WHERE substring(late_grant FROM 2 FOR 4) <> $1)
		+ (SELECT count(*) FROM flows WHERE substring(sealed FROM 2 FOR 4) <> $1) + (SELECT count(*) FROM outbox WHERE substring(sealed FROM 2 FOR 4) <> $1)
		+ (SELECT count(*) FROM keyset_check WHERE substring(sealed FROM 2 FOR 4) <> $1)
		+ (SELECT count(*) FROM webhook_endpoints WHERE substring(sealed FROM 2 FOR 4) <> $1)
		+ (SELECT count(*) FROM users WHERE substring(mac FROM 1 FOR 4) <> $1) + (SELECT count(*) FROM sessions WHERE substring(mac FROM 1 FOR 4) <> $1)
		+ (SELECT count(*) FROM links WHERE substring(mac FROM 1 FOR 4) <> $1) + (SELECT count(*) FROM connect_links WHERE substring(mac FROM 1 FOR 4) <> $1)
		+ (SELECT count(*) FROM identities WHERE substring(mac FROM 1 FOR 4) <> $1)
		+ (SELECT count(*) FROM api_keys WHERE substring(mac FROM 1 FOR 4) <> $1)`

// CountOldSeals counts what an older key of the keyset has sealed or signed, and stores the count for OldSeals. Each refresh seals with
// the first key, and Resign signs with it. With one key it counts nothing.
func (d *DB) CountOldSeals(ctx context.Context) error {
	if d.keyset.Len() < 2 {
		_, err := pg.Exec(ctx, d.Pool, "count old seals", `DELETE FROM settings WHERE name = $1`, settingOldSeals)
		return err
	}
	n, err := pg.One(ctx, d.Pool, "count old seals", pgx.RowTo[int64], oldSeals, d.primary())
	if err != nil {
		return err
	}
	_, err = pg.Exec(ctx, d.Pool, "count old seals", `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		settingOldSeals, strconv.FormatInt(n, 10))
	return err
}

// OldSeals returns the last count of CountOldSeals.
func (d *DB) OldSeals(ctx context.Context) (int64, error) {
	return pg.One(ctx, d.Pool, "read old seals", pgx.RowTo[int64], `SELECT coalesce((SELECT value::bigint FROM settings WHERE name = $1), 0)`, settingOldSeals)
}
