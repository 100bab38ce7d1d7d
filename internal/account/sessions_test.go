package account_test

import (
	"errors"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/pg"
)

func TestSessionsEnd(t *testing.T) {
	d, accounts, clock := opened(t)
	ctx := t.Context()
	u := addUser(t, d, accounts, audit.RoleMerchant, "sok@ch168.example")
	begin := func() pg.Secret {
		t.Helper()
		secret := pg.NewSecret()
		if err := accounts.AddSession(ctx, secret, u, "192.0.2.7", "Mozilla/5.0"); err != nil {
			t.Fatal(err)
		}
		return secret
	}
	in := func(secret pg.Secret) bool {
		t.Helper()
		_, err := accounts.SignedInBy(ctx, secret)
		if err != nil && !errors.Is(err, pg.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}

	idle := begin()
	got, err := accounts.SignedInBy(ctx, idle)
	if err != nil || got.User.ID != u.ID || got.Merchant.Name != "CH168 Shop" || got.Merchant.ID != u.MerchantID {
		t.Fatalf("signed in as %+v, %v", got, err)
	}
	clock.Advance(account.SessionIdle - time.Second)
	if !in(idle) {
		t.Error("over before its idle time")
	}
	clock.Advance(time.Second)
	if in(idle) {
		t.Error("not over after its idle time")
	}

	busy := begin()
	for passed := time.Duration(0); passed < account.SessionLifetime-time.Hour; passed += time.Hour {
		if err := accounts.TouchSession(ctx, busy.Hash(), "192.0.2.8", "Mozilla/5.0"); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Hour)
	}
	if !in(busy) {
		t.Error("over while it was used")
	}
	clock.Advance(time.Hour)
	if in(busy) {
		t.Error("not over after its whole lifetime")
	}

	one, two := begin(), begin()
	if err := accounts.EndSession(ctx, u.ID, one.Hash()); err != nil {
		t.Fatal(err)
	}
	if in(one) || !in(two) {
		t.Error("ending one session ended another, or not that one")
	}
	if err := accounts.EndSession(ctx, pg.NewID(), two.Hash()); err != nil || !in(two) {
		t.Error("another user ended a session")
	}
	if err := accounts.LockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if err := accounts.UnlockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if in(two) {
		t.Error("a session outlived its user's being locked")
	}
	if err := accounts.DropExpired(ctx); err != nil {
		t.Fatal(err)
	}
}
