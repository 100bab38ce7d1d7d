package refresh_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// In synctest's bubble the host's clock can be whatever one likes; Postgres, outside, has the right time. What is stored and when
// it is renewed must not depend on the host.
func TestAWrongHostClockChangesNothing(t *testing.T) {
	base := dbtest.Make(t)
	keyset, err := seal.Parse(base.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range []time.Duration{-90 * time.Second, 90 * time.Second} {
		right := time.Now()
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Until(right.Add(wrong))) // at once: nobody is busy yet
			ctx := context.Background()
			d, err := db.Open(ctx, base.URL, keyset, pg.Options{MaxConns: 2})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			p := newPartner("acme")
			e := refresh.New(refresh.Options{DB: d, Connectors: []connectors.Connector{p}, Log: slog.New(slog.DiscardHandler)})
			var owner db.Merchant
			id := connect(t, d, p, "account"+wrong.String(), 48*time.Hour, &owner)
			if out, err := e.RefreshNow(ctx, id, audit.System); err != nil || out.Outcome != status.OK {
				t.Fatalf("%s, %v", out.Outcome, err)
			}
			if err := e.Stop(ctx); err != nil {
				t.Error(err)
			}
			var left float64 // by Postgres
			if err := d.Pool.QueryRow(ctx, `SELECT extract(epoch FROM expires_at - now()) FROM grants WHERE connection_id = $1`, id).Scan(&left); err != nil {
				t.Fatal(err)
			}
			if want := p.life.Seconds(); left > want || left < want-20 {
				t.Errorf("with the host wrong by %s the token is thought good for %.0f s, it is for %.0f", wrong, left, want)
			}
			if off := time.Until(d.Now()) + wrong; off > 20*time.Second || off < -20*time.Second {
				t.Errorf("our time is the host's: off by %s", off)
			}
		})
	}
}
