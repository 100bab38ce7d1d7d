package account_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

func TestLinksAreSpentOnce(t *testing.T) {
	d, accounts, clock := opened(t)
	ctx := t.Context()
	u, err := accounts.AddUser(ctx, audit.System, account.NewUser{Role: audit.RoleMerchant, Email: "sok@ch168.example", MerchantID: dbtest.Merchant(t, d, "CH168 Shop").ID})
	if err != nil {
		t.Fatal(err)
	}
	link := func(kind account.LinkKind) pg.Secret {
		t.Helper()
		secret, _, err := accounts.AddLink(ctx, audit.System, kind, u.ID, pg.ID{})
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	first, second := link(account.LinkInvitation), link(account.LinkInvitation)
	for range 3 { // a mail scanner
		if l, err := accounts.Link(ctx, account.LinkInvitation, first); err != nil || l.User.Email != u.Email || l.Merchant.Name != "CH168 Shop" {
			t.Fatalf("reading a link: %+v, %v", l, err)
		}
	}
	if _, err := accounts.Link(ctx, account.LinkPassword, first); !errors.Is(err, account.ErrInvalidLink) {
		t.Errorf("a link of another kind: %v", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = accounts.SetPassword(ctx, account.LinkInvitation, first, "Sok", "a long password", "", nil)
		})
	}
	dbtest.Wait(t, &wg, "those who use the link")
	spent := 0
	for _, err := range errs {
		if err == nil {
			spent++
		} else if !errors.Is(err, account.ErrInvalidLink) {
			t.Error(err)
		}
	}
	if spent != 1 {
		t.Errorf("spent %d times", spent)
	}
	if _, err := accounts.Link(ctx, account.LinkInvitation, second); !errors.Is(err, account.ErrInvalidLink) {
		t.Errorf("another link of the same person after it: %v", err)
	}
	forgotten := link(account.LinkPassword)
	clock.Advance(time.Hour)
	if _, err := accounts.SetPassword(ctx, account.LinkPassword, forgotten, "", "another password", "", nil); !errors.Is(err, account.ErrInvalidLink) {
		t.Errorf("after an hour: %v", err)
	}
	locked := link(account.LinkPassword)
	if err := accounts.LockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if err := accounts.UnlockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.Link(ctx, account.LinkPassword, locked); !errors.Is(err, account.ErrInvalidLink) {
		t.Errorf("a link outlived its person's being locked: %v", err)
	}
}
