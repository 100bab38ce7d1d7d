package account_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

// opened returns a database, its accounts and its clock.
func opened(t *testing.T) (*db.DB, *account.Store, *dbtest.Clock) {
	t.Helper()
	clock := dbtest.NewClock(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))
	d := dbtest.New(t, pg.Options{Clock: clock.Clock})
	return d, account.New(d), clock
}

// addUser adds a user with the password "a long password", and a merchant for one of a merchant's.
func addUser(t *testing.T, d *db.DB, accounts *account.Store, role audit.Role, email string) account.User {
	t.Helper()
	n := account.NewUser{Role: role, Email: email, Password: "a long password"}
	if role == audit.RoleMerchant {
		n.MerchantID = dbtest.Merchant(t, d, "CH168 Shop").ID
	}
	u, err := accounts.AddUser(t.Context(), audit.System, n)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestAddUserRefusesWhatCannotBeRight(t *testing.T) {
	d, accounts, _ := opened(t)
	shop := dbtest.Merchant(t, d, "Sok Shop").ID
	addUser(t, d, accounts, audit.RoleSupport, "late@sok.example")
	for name, n := range map[string]struct {
		new  account.NewUser
		want error
	}{
		"staff with a merchant":   {account.NewUser{Role: audit.RoleAdmin, Email: "x@y.example", MerchantID: shop}, account.ErrInvalidRole},
		"a merchant's without":    {account.NewUser{Role: audit.RoleMerchant, Email: "x@y.example"}, account.ErrInvalidRole},
		"no such role":            {account.NewUser{Role: "owner", Email: "x@y.example"}, account.ErrInvalidRole},
		"no such role, of a shop": {account.NewUser{Role: "owner", Email: "x@y.example", MerchantID: shop}, account.ErrInvalidRole},
		"no such merchant":        {account.NewUser{Role: audit.RoleMerchant, Email: "x@y.example", MerchantID: pg.NewID()}, pg.ErrNotFound},
		"no e-mail address":       {account.NewUser{Role: audit.RoleAdmin, Email: "Sok <x@y.example>"}, account.ErrInvalidEmail},
		"an e-mail address twice": {account.NewUser{Role: audit.RoleAdmin, Email: "LATE@sok.example"}, account.ErrEmailTaken},
	} {
		if _, err := accounts.AddUser(t.Context(), audit.System, n.new); !errors.Is(err, n.want) {
			t.Errorf("%s: %v, want %v", name, err, n.want)
		}
	}
}

func TestTheLastAdminStays(t *testing.T) {
	d, accounts, _ := opened(t)
	ctx := t.Context()
	a, b := addUser(t, d, accounts, audit.RoleAdmin, "a@patchbay.example"), addUser(t, d, accounts, audit.RoleAdmin, "b@patchbay.example")
	if _, err := accounts.AddUser(ctx, audit.System, account.NewUser{Role: audit.RoleAdmin, Email: "invited@patchbay.example"}); err != nil {
		t.Fatal(err) // who cannot sign in yet does not count
	}
	// Two admins who put each other out at once, again and again: one of them must stay.
	for range 5 {
		var wg sync.WaitGroup
		errs := make([]error, 2)
		wg.Go(func() { errs[0] = accounts.SetRole(ctx, audit.System, b.ID, audit.RoleSupport) })
		wg.Go(func() { errs[1] = accounts.LockUser(ctx, audit.System, a.ID) })
		dbtest.Wait(t, &wg, "both changes")
		refused := 0
		for _, err := range errs {
			if errors.Is(err, account.ErrLastAdmin) {
				refused++
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if refused != 1 {
			t.Fatalf("%d of 2 refused: %v", refused, errs)
		}
		if errs[0] == nil {
			if err := accounts.SetRole(ctx, audit.System, b.ID, audit.RoleAdmin); err != nil {
				t.Fatal(err)
			}
		} else if err := accounts.UnlockUser(ctx, audit.System, a.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := accounts.SetRole(ctx, audit.System, addUser(t, d, accounts, audit.RoleMerchant, "m@shop.example").ID, audit.RoleAdmin); !errors.Is(err, account.ErrInvalidRole) {
		t.Errorf("a merchant's person became staff: %v", err)
	}
}

func TestListUsers(t *testing.T) {
	d, accounts, _ := opened(t)
	ctx := t.Context()
	for i := range 7 {
		n := account.NewUser{Role: audit.RoleMerchant, Email: fmt.Sprintf("p%d@shop.example", i), MerchantID: dbtest.Merchant(t, d, fmt.Sprintf("Shop %d", i)).ID}
		if _, err := accounts.AddUser(ctx, audit.System, n); err != nil {
			t.Fatal(err)
		}
	}
	admin := addUser(t, d, accounts, audit.RoleAdmin, "admin@patchbay.example")
	of := account.UserQuery{Role: audit.RoleMerchant}
	users, err := accounts.ListUsers(ctx, of, "", 3)
	if err != nil || len(users.Rows) != 3 || users.Rows[0].Email != "p0@shop.example" || !users.Rows[0].Invited || users.Prev != "" {
		t.Fatalf("users: %+v, %v", users, err)
	}
	users, err = accounts.ListUsers(ctx, of, users.Next, 3)
	if err != nil || len(users.Rows) != 3 || users.Rows[0].Email != "p3@shop.example" {
		t.Fatalf("users after: %+v, %v", users, err)
	}
	users, err = accounts.ListUsers(ctx, of, users.Prev, 2)
	if err != nil || len(users.Rows) != 2 || users.Rows[0].Email != "p1@shop.example" {
		t.Fatalf("users before: %+v, %v", users, err)
	}
	users, err = accounts.ListUsers(ctx, account.UserQuery{Search: "ADMIN@"}, "", 3)
	if err != nil || len(users.Rows) != 1 || users.Rows[0].ID != admin.ID || !users.Rows[0].LastAdmin {
		t.Fatalf("users found: %+v, %v", users, err)
	}
}
