package schedule

import (
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/pg"
)

func TestDue(t *testing.T) {
	obtained := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	for _, c := range []struct {
		name                       string
		keepAlive, lifetime, right time.Duration
		used                       bool
		from, to                   time.Duration // after obtained
	}{
		{"CamInvoice in use", day, 15 * time.Minute, 0, true, 11*time.Minute + 15*time.Second, 12 * time.Minute},
		{"CamInvoice without use", day, 15 * time.Minute, 0, false, day * 95 / 100, day},
		{"ELECQ in use: never more than a quarter of an hour of margin", day, day, 7 * day, true, day*95/100 - 15*time.Minute, day - 15*time.Minute},
		{"ELECQ without use: long before its week is over", day, day, 7 * day, false, day * 95 / 100, day},
		{"the right to renew ends before the next health check", 7 * day, time.Hour, 2 * day, false, day, 2*day - 9*time.Hour},
		{"a lifetime nobody knows", day, 0, 0, true, day * 95 / 100, day},
		{"Square in use: at least every six days, though its token lasts thirty", 6 * day, 30 * day, 0, true, 6 * day * 95 / 100, 6 * day},
		{"Square without use", 6 * day, 30 * day, 0, false, 6 * day * 95 / 100, 6 * day},
		{"LinkedIn's year of renewing, in use", 7 * day, 60 * day, 365 * day, true, 7 * day * 95 / 100, 7 * day},
		{"a short token in use, and a long keep-alive", 7 * day, time.Hour, 0, true, 45 * time.Minute, 48 * time.Minute},
		{"nothing to keep alive, in use", 0, time.Hour, 0, true, 45 * time.Minute, 48 * time.Minute},
		{"a very short one: never before half", 0, 10 * time.Second, 0, true, 5 * time.Second, 8 * time.Second},
	} {
		for range 50 {
			got := DueAfter(c.keepAlive, pg.NewID(), obtained, c.lifetime, c.right, c.used).Sub(obtained)
			if got < c.from || got > c.to {
				t.Errorf("%s: due after %s, want %s to %s", c.name, got, c.from, c.to)
				break
			}
		}
	}
	if due := DueAfter(0, pg.NewID(), obtained, time.Hour, 0, false); !due.IsZero() {
		t.Errorf("nobody uses it and nothing has to be kept alive: due %s", due)
	}
	id := pg.NewID()
	if a, b := DueAfter(day, id, obtained, time.Hour, 0, true), DueAfter(day, id, obtained, time.Hour, 0, true); !a.Equal(b) {
		t.Error("the same grant is due at two times")
	}
}

func TestBackoffDoublesToAnHour(t *testing.T) {
	id := pg.NewID()
	for n, want := range map[int]time.Duration{1: 30 * time.Second, 2: time.Minute, 4: 4 * time.Minute, 8: time.Hour, 500: time.Hour} {
		if got := Backoff(n, id); got < want*9/10 || got > want*11/10 {
			t.Errorf("after failure %d: %s, want about %s", n, got, want)
		}
	}
}

func TestRetryAfterIsAsLongAsAskedAndGrows(t *testing.T) {
	id := pg.NewID()
	for _, c := range []struct {
		n                 int
		asked, from, most time.Duration
	}{
		{1, time.Second, 10 * time.Second, 12 * time.Second},
		{2, time.Second, 20 * time.Second, 24 * time.Second},
		{3, 2 * time.Second, 40 * time.Second, 48 * time.Second},
		{8, time.Second, 5 * time.Minute, 6 * time.Minute},
		{1, 7 * time.Minute, 7 * time.Minute, 7 * time.Minute},
		{1, 48 * time.Hour, 24 * time.Hour, 24 * time.Hour},
	} {
		if got := RetryAfter(c.n, c.asked, id); got < c.from || got > c.most {
			t.Errorf("asked to wait %s for the %d. time: %s", c.asked, c.n, got)
		}
	}
}

func TestOnlyTypedCredentialsStandInForARefreshToken(t *testing.T) {
	obtained := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	const day = 24 * time.Hour
	shop := map[string]string{"shop": "ch168"} // typed, but it gives no access
	keys := map[string]string{"client_id": "id", "client_secret": "secret"}
	access := connectors.Token{Access: "A", Lifetime: 60 * day}
	renewed := connectors.Token{Access: "A", Lifetime: 60 * day, Refresh: "R", RefreshLifetime: 10 * day}
	for name, c := range map[string]struct {
		mints    bool
		g        connectors.Grant
		from, to time.Duration
	}{
		"a shop's name without a refresh token":                  {false, connectors.Grant{Token: access, Inputs: shop}, 60 * day, 60 * day},
		"a shop's name with a refresh token that ends":           {false, connectors.Grant{Token: renewed, Inputs: shop}, 8 * day, 9 * day},
		"credentials without a refresh token":                    {true, connectors.Grant{Token: access, Inputs: keys}, 27 * day, 30 * day},
		"credentials with a refresh token that ends before them": {true, connectors.Grant{Token: renewed, Inputs: keys}, 27 * day, 30 * day},
		"credentials that are not there":                         {true, connectors.Grant{Token: access}, 60 * day, 60 * day},
	} {
		info := connectors.Info{Mints: c.mints, KeepAlive: 30 * day}
		if got := Due(info, pg.NewID(), c.g, obtained, false).Sub(obtained); got < c.from || got > c.to {
			t.Errorf("%s: due after %s, want %s to %s", name, got, c.from, c.to)
		}
	}
}
