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
	"patchbay/internal/search"
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

// TestNoTokenPastItsEnd moves Postgres's clock, also as a failover to a standby whose clock is behind does, before, during and after a
// refresh. Nothing is handed out, listed or scheduled by an end beyond now + its lifetime.
func TestNoTokenPastItsEnd(t *testing.T) {
	w := newTestEngine(t)
	const lifetime = 30 * time.Minute
	w.partner.life, w.partner.refresh = lifetime, 30*24*time.Hour
	steps := []time.Duration{-time.Hour, 0, time.Hour}
	_, secret, err := w.db.AddAPIKey(t.Context(), audit.System, db.APIKey{Name: "k", Scopes: []string{db.ScopeTokens}})
	if err != nil {
		t.Fatal(err)
	}
	start := w.db.Now()
	for _, before := range steps {
		for _, during := range steps {
			for _, after := range steps {
				for _, runs := range []bool{false, true} {
					name := "before " + before.String() + ", during " + during.String() + ", after " + after.String()
					w.clock.Set(start)
					id := w.connect(name+map[bool]string{true: ", put right"}[runs], time.Hour)
					w.exec(`UPDATE grants SET used_at = $2 WHERE connection_id = $1`, id, start)
					w.clock.Advance(before)
					w.partner.set(func() {
						w.partner.delay = func(string) time.Duration { w.clock.Advance(during); return 0 }
					})
					if out, err := w.engine.RefreshNow(t.Context(), id, audit.System); err != nil || out.Outcome != status.OK {
						t.Fatalf("%s: %s, %v", name, out.Outcome, err)
					}
					w.partner.set(func() { w.partner.delay = nil })
					w.clock.Advance(after)
					truth := w.db.Now() // the provider's token ends a lifetime from here, however long it seems to us
					check := func(when string) {
						now := w.db.Now()
						most := now.Add(lifetime + time.Minute)
						h, ok, err := w.db.ReadToken(t.Context(), secret, id)
						if err != nil {
							t.Fatal(err)
						}
						if ok && w.engine.Good(h, refresh.DefaultValidity) && h.ExpiresAt.After(most) {
							t.Errorf("%s, %s: a token is handed out until %s from now", name, when, h.ExpiresAt.Sub(now))
						}
						list, err := w.db.Connections(t.Context(), search.Filter{Only: []pg.ID{id}}, nil, "", 1)
						if err != nil || len(list.Rows) != 1 {
							t.Fatal(len(list.Rows), err)
						}
						if s := list.Rows[0]; s.ExpiresAt.After(most) {
							t.Errorf("%s, %s: listed as good for %s", name, when, s.ExpiresAt.Sub(now))
						}
						if c := w.detail(id); c.ExpiresAt.After(most) {
							t.Errorf("%s, %s: shown as good for %s", name, when, c.ExpiresAt.Sub(now))
						}
					}
					check("at once")
					if runs {
						if err := w.engine.PutClockRight(t.Context()); err != nil {
							t.Fatal(err)
						}
						check("put right")
						if s := w.detail(id); s.RefreshAt.After(w.db.Now().Add(lifetime)) || s.RefreshedAt.After(w.db.Now().Add(time.Minute)) {
							t.Errorf("%s: scheduled in %s, refreshed %s from now", name, s.RefreshAt.Sub(w.db.Now()), s.RefreshedAt.Sub(w.db.Now()))
						}
						var refreshEnd time.Time
						if err := w.db.Pool.QueryRow(t.Context(), `SELECT refresh_expires_at FROM grants WHERE connection_id = $1`, id).Scan(&refreshEnd); err != nil {
							t.Fatal(err)
						}
						if refreshEnd.After(w.db.Now().Add(w.partner.refresh + time.Minute)) {
							t.Errorf("%s: the refresh token is thought good for %s", name, refreshEnd.Sub(w.db.Now()))
						}
						w.sweep()
					}
					calls := w.partner.callsOf(w.detail(id).Account.ID)
					r, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System)
					if err != nil || r.ExpiresAt.After(w.db.Now().Add(lifetime+time.Minute)) {
						t.Errorf("%s: until %s from now, %v", name, r.ExpiresAt.Sub(w.db.Now()), err)
					}
					if runs && w.partner.callsOf(w.detail(id).Account.ID) != calls {
						t.Errorf("%s: the sweep left a token that needs a refresh", name)
					}
					if !runs {
						continue
					}
					// An hour and a half later nothing of before is good, whatever the clock showed.
					w.clock.Set(truth.Add(90 * time.Minute))
					if r, err = w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System); err != nil || w.partner.callsOf(w.detail(id).Account.ID) < 2 || r.Token.Access == "" {
						t.Errorf("%s: an ended token is handed out, %v", name, err)
					}
				}
			}
		}
	}
}

// TestAClockThatGoesBackHoldsNothingUp: what a clock wrote that was ahead by an hour keeps nobody waiting for that hour.
func TestAClockThatGoesBackHoldsNothingUp(t *testing.T) {
	w := newTestEngine(t)
	renewable, fixed := w.connect("a", time.Hour), w.connectUnrenewable(30*time.Minute)
	leased := w.connect("b", time.Hour)
	w.claim(leased)
	w.refreshNow(renewable)
	w.exec(`INSERT INTO providers (name, environment, paused_until, next_probe, incident_ended_at) VALUES ($1, 'sandbox', $2, $2, $3)
		ON CONFLICT (name, environment) DO UPDATE SET paused_until = excluded.paused_until, next_probe = excluded.next_probe, incident_ended_at = excluded.incident_ended_at`,
		"acme", w.db.Now().Add(time.Minute), w.db.Now())
	w.clock.Advance(-time.Hour)
	if err := w.engine.PutClockRight(t.Context()); err != nil {
		t.Fatal(err)
	}
	now := w.db.Now()
	state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox")
	if err != nil || state.PausedUntil.After(now.Add(6*time.Minute)) || state.NextProbe.After(now.Add(2*time.Minute)) || state.DrainedAt.After(now) {
		t.Errorf("paused for %s, next probe in %s, drained in %s, %v", state.PausedUntil.Sub(now), state.NextProbe.Sub(now), state.DrainedAt.Sub(now), err)
	}
	if s := w.detail(leased); s.LeasedUntil.IsZero() || s.LeasedUntil.After(now.Add(2*time.Minute)) {
		t.Errorf("leased for %s", s.LeasedUntil.Sub(now))
	}
	var busy int
	if err := w.db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM provider_slots WHERE busy_until > $1`, now.Add(2*time.Minute)).Scan(&busy); err != nil || busy > 0 {
		t.Errorf("%d slots are busy for an hour, %v", busy, err)
	}
	if r, err := w.engine.Fresh(t.Context(), fixed, refresh.DefaultValidity, audit.System); err != nil || r.ExpiresAt.After(now.Add(31*time.Minute)) {
		t.Errorf("what nothing renews is good for %s, %v", r.ExpiresAt.Sub(now), err)
	}
	if err := w.engine.PutClockRight(t.Context()); err != nil { // it changes nothing twice
		t.Fatal(err)
	}
	if s := w.detail(fixed); s.ExpiresAt.Before(now.Add(29 * time.Minute)) {
		t.Errorf("what nothing renews is good for only %s", s.ExpiresAt.Sub(now))
	}
}
