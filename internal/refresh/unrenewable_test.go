package refresh_test

import (
	"errors"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

// connectUnrenewable makes a connection whose grant holds an access token and nothing to renew it with.
func (w *testEngine) connectUnrenewable(lifetime time.Duration) pg.ID {
	w.Helper()
	w.connect("other", time.Minute) // makes the merchant
	g := connectors.Grant{
		Token:   connectors.Token{Access: "kept", Type: "Bearer", Lifetime: lifetime},
		Account: connectors.Account{ID: "a", Name: "a"},
	}
	id, err := w.db.AddConnection(w.Context(), w.owner.ID, w.partner.info.Name, w.partner.info.Environment, g, w.db.Now(), w.partner.info)
	if err != nil {
		w.Fatal(err)
	}
	return id
}

func TestWhatNothingRenewsIsGoodUntilItsEnd(t *testing.T) {
	for name, lifetime := range map[string]time.Duration{
		"no end": 0, "a minute": time.Minute, "an hour": time.Hour, "a day": 24 * time.Hour, "sixty days": 60 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestEngine(t)
			id := w.connectUnrenewable(lifetime)
			served := func(when string) {
				t.Helper()
				r, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System)
				if err != nil || r.Token.Access != "kept" || r.ExpiresAt.IsZero() != (lifetime == 0) {
					t.Errorf("%s: %v, until %s", when, err, r.ExpiresAt)
				}
			}
			served("at first")
			if s := w.detail(id); !s.RefreshAt.IsZero() || s.NextRefresh(w.db.Now()) != status.NextUnrenewable {
				t.Errorf("planned at %s: %s", s.RefreshAt, s.NextRefresh(w.db.Now()))
			}
			if err := w.engine.MarkUsed(t.Context(), []refresh.Use{{Connection: id, At: w.db.Now(), RefreshAt: w.db.Now().Add(time.Second)}}); err != nil {
				t.Fatal(err)
			}
			out, err := w.engine.RefreshNow(t.Context(), id, audit.Actor{Role: audit.RoleSupport})
			if err != nil || out.Outcome != status.Unrenewable || out.ExpiresAt.IsZero() != (lifetime == 0) {
				t.Errorf("refresh now: %s, %v", out.Outcome, err)
			}
			w.clock.Advance(lifetime - min(lifetime, 10*time.Second)) // less than DefaultValidity asks for is left
			w.sweep()
			served("shortly before its end")
			if w.health(id) != status.Fine {
				t.Errorf("before its end: health %s", w.health(id))
			}
			if c := w.detail(id); c.AccessEnds.IsZero() != (lifetime == 0) || !c.Unrenewable || !c.RefreshAt.IsZero() {
				t.Errorf("access ends at %s, next refresh at %s", c.AccessEnds, c.RefreshAt)
			}
			w.clock.Advance(11 * time.Second)
			if lifetime == 0 {
				w.clock.Advance(80 * 24 * time.Hour)
				w.sweep()
				served("months later")
			} else {
				w.wantLapsed(id, "read after its end")
				w.sweep()
				w.wantLapsed(id, "swept after its end")
				if w.health(id) != status.ActionNeeded {
					t.Errorf("after its end: health %s", w.health(id))
				}
			}
			if n := w.partner.callsOf("a"); n != 0 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

func (w *testEngine) wantLapsed(id pg.ID, when string) {
	w.Helper()
	var needed *refresh.ActionNeededError
	if _, err := w.engine.Fresh(w.Context(), id, refresh.DefaultValidity, audit.System); !errors.As(err, &needed) || needed.Problem != status.ProblemLapsed {
		w.Errorf("%s: %v", when, err)
	}
}

func TestMoreThanIsLeftOfWhatNothingRenewsIsTheMerchantsToGive(t *testing.T) {
	w := newTestEngine(t)
	id := w.connectUnrenewable(time.Hour)
	w.clock.Advance(50 * time.Minute)
	for _, c := range []struct {
		minValid time.Duration
		good     bool
	}{{refresh.DefaultValidity, true}, {0, true}, {9 * time.Minute, true}, {11 * time.Minute, false}, {47 * time.Minute, false}} {
		_, err := w.engine.Fresh(t.Context(), id, c.minValid, audit.System)
		var needed *refresh.ActionNeededError
		if (err == nil) != c.good || !c.good && !errors.As(err, &needed) {
			t.Errorf("good for %s: %v", c.minValid, err)
		}
	}
	if _, err := w.engine.Fresh(t.Context(), id, 49*time.Minute, audit.System); !isTooLong(err) {
		t.Errorf("over 80 %% of the lifetime: %v", err)
	}
	if w.health(id) != status.Fine {
		t.Errorf("health %s", w.health(id))
	}
}

// TestWhatWasStoredAsRenewableIsFoundOut is about rows of an earlier version, which have a next refresh.
func TestWhatWasStoredAsRenewableIsFoundOut(t *testing.T) {
	w := newTestEngine(t)
	id := w.connectUnrenewable(time.Hour)
	w.exec(`UPDATE grants SET renewable = true, refresh_at = $2, refresh_expires_at = NULL, refresh_expiry_fixed = false WHERE connection_id = $1`, id, w.db.Now())
	w.sweep()
	if c := w.detail(id); !c.Unrenewable || c.AccessEnds.IsZero() || w.health(id) != status.Fine {
		t.Errorf("unrenewable %v, access ends at %s, health %s", c.Unrenewable, c.AccessEnds, w.health(id))
	}
}
