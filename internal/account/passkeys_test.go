package account_test

import (
	"net/url"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

func TestChallengesThatAreOverAreDropped(t *testing.T) {
	t.Parallel()
	clock := dbtest.NewClock(time.Now().UTC())
	d := dbtest.New(t, pg.Options{Clock: clock.Clock})
	accounts := account.New(d)
	rp, err := account.NewRelyingParty(&url.URL{Scheme: "https", Host: "patchbay.example"}, "Patchbay")
	if err != nil {
		t.Fatal(err)
	}
	for _, pass := range []struct {
		after time.Duration
		left  int
	}{{time.Minute, 1}, {5 * time.Minute, 1}, {time.Hour, 0}} {
		if pass.left == 1 {
			if _, err := accounts.Challenge(t.Context(), account.Browser{RelyingParty: rp, Secret: pg.NewSecret()}, account.PasskeySignIn, account.User{}); err != nil {
				t.Fatal(err)
			}
		}
		clock.Advance(pass.after - time.Second)
		if err := accounts.DropExpired(t.Context()); err != nil {
			t.Fatal(err)
		}
		var left int
		if err := d.Pool.QueryRow(t.Context(), `SELECT count(*) FROM passkey_challenges`).Scan(&left); err != nil {
			t.Fatal(err)
		}
		if left < pass.left || pass.left == 0 && left != 0 {
			t.Errorf("%s later %d challenges are left, want %d", pass.after, left, pass.left)
		}
		clock.Advance(time.Second)
	}
}

func TestNoPasskeyBelongsToAnIPAddress(t *testing.T) {
	t.Parallel()
	for host, offered := range map[string]bool{
		"127.0.0.1:8080": false, "[::1]:8080": false, "203.0.113.7": false, "localhost:8080": true, "patchbay.example": true, "Connect.Platform.example:8443": true,
	} {
		rp, err := account.NewRelyingParty(&url.URL{Scheme: "https", Host: host}, "Patchbay")
		if err != nil || (rp != nil) != offered {
			t.Errorf("%s: offered %t, want %t (%v)", host, rp != nil, offered, err)
		}
	}
}
