package refresh_test

import (
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
)

// TestConsentEndsWhateverTokensSay: Amazon's is for a year, and no refresh moves its end.
func TestConsentEndsWhateverTokensSay(t *testing.T) {
	const day = 24 * time.Hour
	for _, one := range []struct {
		name                 string
		consent, right, life time.Duration
		keeps                bool
		connected, renewed   time.Duration // after it was given; 0: refreshing extends it
	}{
		{"no end, and a new refresh token each time", 0, 0, time.Hour, false, 0, 0},
		{"a year, and a new refresh token each time", 365 * day, 0, time.Hour, false, 365 * day, 365 * day},
		{"a year, and the same refresh token", 365 * day, 0, time.Hour, true, 365 * day, 365 * day},
		{"a year, and refresh tokens of thirty days", 365 * day, 30 * day, time.Hour, false, 0, 0},
		{"ten days, and refresh tokens of thirty days", 10 * day, 30 * day, time.Hour, false, 10 * day, 10 * day},
		{"thirty-one days, and refresh tokens of thirty", 31 * day, 30 * day, time.Hour, false, 0, 31 * day},
		{"a token without a known end", 90 * day, 0, 0, false, 90 * day, 90 * day},
	} {
		t.Run(one.name, func(t *testing.T) {
			w := newTestEngine(t)
			w.partner.info.GrantLife, w.partner.refresh, w.partner.life, w.partner.keeps = one.consent, one.right, one.life, one.keeps
			w.engine = w.newEngine(w.db)
			given := w.db.Now()
			id := w.connect("a", 0)
			ends := func(when string, want time.Duration) {
				t.Helper()
				end := w.detail(id).AccessEnds
				if want == 0 && !end.IsZero() || want != 0 && end.Sub(given.Add(want)).Abs() > time.Minute {
					t.Errorf("%s: access ends at %s, want %s after %s", when, end, want, given)
				}
			}
			ends("connected", one.connected)
			w.clock.Advance(2 * day)
			w.refreshNow(id)
			ends("renewed", one.renewed)
			w.clock.Advance(2 * day)
			w.refreshNow(id)
			ends("renewed again", one.renewed)
		})
	}
}

func TestConsentEndsWithWhatNothingRenews(t *testing.T) {
	const day = 24 * time.Hour
	for _, one := range []struct {
		name                string
		consent, life, ends time.Duration
	}{
		{"a token without an end, and a year of consent", 365 * day, 0, 365 * day},
		{"a token of sixty days, and a year of consent", 365 * day, 60 * day, 60 * day},
		{"a token of sixty days, and ten of consent", 10 * day, 60 * day, 10 * day},
		{"a token without an end, and no end of consent", 0, 0, 0},
		{"a token of an hour, and no end of consent", 0, time.Hour, time.Hour},
	} {
		w := newTestEngine(t)
		w.partner.info.GrantLife = one.consent
		w.connect("other", time.Minute)
		g := connectors.Grant{Token: connectors.Token{Access: "kept", Type: "Bearer", Lifetime: one.life}, Account: connectors.Account{ID: "a", Name: "a"}}
		id, err := w.db.AddConnection(t.Context(), w.owner.ID, "acme", "sandbox", g, w.db.Now(), w.partner.info)
		if err != nil {
			t.Fatal(err)
		}
		given := w.db.Now()
		if _, err := w.engine.RefreshNow(t.Context(), id, audit.System); err != nil {
			t.Fatal(err)
		}
		c, err := w.db.ConnectionDetail(t.Context(), id, pg.ID{})
		if err != nil {
			t.Fatal(err)
		}
		if one.ends == 0 && !c.AccessEnds.IsZero() || one.ends != 0 && c.AccessEnds.Sub(given.Add(one.ends)).Abs() > time.Minute {
			t.Errorf("%s: ends at %s, want %s after %s", one.name, c.AccessEnds, one.ends, given)
		}
	}
}
