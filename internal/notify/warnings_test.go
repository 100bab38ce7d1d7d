package notify_test

import (
	"context"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/status"

	"github.com/jackc/pgx/v5"
)

// TestDueWarningsReadNoLargeTable: the question is asked every minute, of a million connections.
// queue takes mails and drops them.
type queue struct{}

func (queue) EnqueueMail(context.Context, pgx.Tx, notify.Mail) error { return nil }

func TestDueWarningsReadNoLargeTable(t *testing.T) {
	t.Parallel()
	d := dbtest.New(t, pg.Options{MaxConns: 1}) // one, which alone knows what it has counted
	ctx := context.Background()
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := d.Pool.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	u := dbtest.User(t, d, audit.RoleMerchant, "sok@example.com", "", "sok")
	exec(`UPDATE users SET password_hash = 'set'`)
	exec(`ALTER TABLE connections DISABLE TRIGGER USER`) // what is searched is not asked for here
	exec(`INSERT INTO connections (id, merchant_id, provider, environment, account_id, connected_at, problem, problem_since)
		SELECT gen_random_uuid(), $1, 'caminvoice', 'sandbox', n::text, $2, CASE WHEN n % 2000 = 0 THEN 'refused' ELSE '' END, CASE WHEN n % 2000 = 0 THEN $2::timestamptz END
		FROM generate_series(1, 30000) AS n`, u.MerchantID, d.Now().Add(-time.Hour))
	exec(`ANALYZE connections, users, warnings`)
	scans := func() (n int) {
		t.Helper()
		exec(`SELECT pg_stat_force_next_flush()`)
		if err := d.Pool.QueryRow(ctx, `SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'connections'`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := scans()
	mails, err := notify.EnqueueWarnings(ctx, d.DB, status.Providers{"caminvoice": {SetUp: true, Environment: "sandbox"}}, queue{})
	if err != nil || mails == 0 {
		t.Fatalf("%d mails, %v", mails, err)
	}
	if n := scans() - before; n != 0 {
		t.Errorf("all connections were read %d times", n)
	}
}
