package db

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

const (
	settingIdentity = "database.identity"
	settingRestored = "database.restored" // when that was noticed last, by RFC 3339
)

// look is what this process saw of the database when it looked last.
type look struct {
	mu           sync.Mutex
	transactions int64 // how many the cluster had begun
	at           time.Time
}

// Restored returns when it was last noticed that the database is a copy of an earlier state, or is another than the one that served
// before; zero for never. first says that this call noticed it: of many processes one does.
//
// A setting holds the identity of the cluster, of the database and of its timeline, and the id of the transaction that wrote the
// setting. In a database that was restored elsewhere, was recovered to a point in time or is a standby that took over, the former
// differs; in a row that was copied, as a dump does, the row's own transaction (xmin) is another than the one it names. A cluster
// that a running process has seen further on was put back with all that is in it.
func (d *DB) Restored(ctx context.Context) (at time.Time, first bool, err error) {
	for {
		var identity, writer, was, restored string
		var transactions int64
		err := d.Pool.QueryRow(ctx, `
			SELECT concat_ws('/', (SELECT system_identifier FROM pg_control_system()), (SELECT oid FROM pg_database WHERE datname = current_database()),
					(SELECT timeline_id FROM pg_control_checkpoint())),
				coalesce(i.xmin::text, ''), coalesce(i.value, ''), coalesce(r.value, ''), pg_snapshot_xmax(pg_current_snapshot())::text::bigint
			FROM (SELECT) AS one LEFT JOIN settings i ON i.name = $1 LEFT JOIN settings r ON r.name = $2`, settingIdentity, settingRestored).
			Scan(&identity, &writer, &was, &restored, &transactions)
		if err != nil {
			return time.Time{}, false, err
		}
		at, _ = time.Parse(time.RFC3339Nano, restored) // a time that is missing is zero
		now := d.Now()
		d.look.mu.Lock()
		back := transactions < d.look.transactions && !at.After(d.look.at)
		d.look.transactions, d.look.at = transactions, now
		d.look.mu.Unlock()
		if was == identity+" "+writer && !back {
			return at, false, nil
		}
		first = was != "" && was != identity // without a transaction an earlier program wrote it
		written := false
		err = d.Tx(ctx, func(tx pgx.Tx) error {
			n, err := pg.Exec(ctx, tx, "keep the database's identity", `
				INSERT INTO settings (name, value) SELECT $1, $2 || ' ' || pg_current_xact_id()::xid::text
				ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE settings.value = $3`, settingIdentity, identity, was)
			if written = n > 0; err != nil || !written || !first {
				return err
			}
			_, err = pg.Exec(ctx, tx, "note a restore", `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
				settingRestored, now.Format(time.RFC3339Nano))
			if err != nil {
				return err
			}
			return d.Audit.Add(ctx, tx, audit.Event{Kind: status.DatabaseRestored})
		})
		switch {
		case err != nil:
			return at, false, err
		case written && first:
			return now, true, nil
		case written:
			return at, false, nil
		} // another process was first
	}
}
