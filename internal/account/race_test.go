package account_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"patchbay/internal/db/dbtest"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
)

// TestNoSessionOutlivesTheEndOfAccess: who was authenticated before access was ended begins no session after it, nor do the two at
// once leave one behind.
func TestNoSessionOutlivesTheEndOfAccess(t *testing.T) {
	d, accounts, _ := opened(t)
	ctx := t.Context()
	addUser(t, d, accounts, audit.RoleAdmin, "other@patchbay.example") // so that there is another admin
	for name, end := range map[string]func(account.User) error{
		"another password": func(u account.User) error {
			_, err := accounts.ChangePassword(ctx, audit.System, u, "a long password", "a longer password", account.Session{}, nil)
			return err
		},
		"a lock": func(u account.User) error { return accounts.LockUser(ctx, audit.System, u.ID) },
		"a lock and its end": func(u account.User) error {
			return errors.Join(accounts.LockUser(ctx, audit.System, u.ID), accounts.UnlockUser(ctx, audit.System, u.ID))
		},
		"another role": func(u account.User) error {
			return accounts.SetRole(ctx, audit.System, u.ID, audit.RoleAdmin)
		},
		"a password by link": func(u account.User) error {
			secret, _, err := accounts.AddLink(ctx, audit.System, account.LinkPassword, u.ID, pg.ID{})
			if err == nil {
				_, err = accounts.SetPassword(ctx, account.LinkPassword, secret, "", "a longer password", "", nil)
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			u := addUser(t, d, accounts, audit.RoleSupport, strings.ReplaceAll(name, " ", ".")+"@patchbay.example")
			thief, err := accounts.Authenticate(ctx, u.Email, "a long password", false)
			if err != nil {
				t.Fatal(err)
			}
			var both sync.WaitGroup
			secrets := make([]pg.Secret, 8)
			for i := range secrets {
				secrets[i] = pg.NewSecret()
				both.Go(func() {
					if err := accounts.AddSession(ctx, secrets[i], thief, "", ""); err != nil && !errors.Is(err, account.ErrWrongPassword) {
						t.Error(err)
					}
				})
			}
			both.Go(func() {
				if err := end(u); err != nil {
					t.Error(err)
				}
			})
			dbtest.Wait(t, &both, "both changes")
			for _, secret := range secrets {
				if _, err := accounts.SignedInBy(ctx, secret); !errors.Is(err, pg.ErrNotFound) {
					t.Errorf("a session of before lives: %v", err)
				}
			}
			if err := accounts.AddSession(ctx, pg.NewSecret(), thief, "", ""); !errors.Is(err, account.ErrWrongPassword) {
				t.Errorf("a session begins afterwards: %v", err)
			}
		})
	}
}

func TestCheckPassword(t *testing.T) {
	about := []string{"merchant@ch168.example", "Sok Dara"}
	accounts := account.New(&db.DB{Keyring: &keyring.Keyring{}}, "Cargo & Harbor", "connect.shipyard.example")
	for password, want := range map[string]error{
		"short":                      account.ErrTooShort,
		"ខ្លី":                       account.ErrTooShort,
		strings.Repeat("long ", 201): account.ErrTooLong,
		"password1!":                 account.ErrTooCommon,
		"iloveyou12":                 account.ErrTooCommon,
		"football123":                account.ErrTooCommon,
		"princess123":                account.ErrTooCommon,
		"letmein1234":                account.ErrTooCommon,
		"12345678901":                account.ErrTooCommon,
		"qwertyuiop12":               account.ErrTooCommon,
		"changeme1234":               account.ErrTooCommon,
		"P@ssw0rd2026":               account.ErrTooCommon,
		"aaaaaaaaaaaaaa":             account.ErrTooCommon,
		"abcdefghijklm":              account.ErrTooCommon,
		"patchbay123":                account.ErrTooCommon,
		"Patchbay2026!":              account.ErrTooCommon,
		"merchant@ch168.example":     account.ErrTooCommon,
		"sokdara123":                 account.ErrTooCommon,
		"dara sok sok":               account.ErrTooCommon,
		"Cargo2026!":                 account.ErrTooCommon,
		"CargoHarbor1234":            account.ErrTooCommon,
		"Shipyard2026!":              account.ErrTooCommon,
		"connect.shipyard.example":   account.ErrTooCommon,
		"a long password":            nil,
		"correct horse battery":      nil,
		"Montréal café 2026":         nil,
		"x7Kq2mB9pL":                 nil,
		"ពាក្យសម្ងាត់វែង":              nil,
		strings.Repeat("sovann ", 140): nil,
	} {
		if err := accounts.CheckPassword(password, about...); !errors.Is(err, want) {
			t.Errorf("%.40q: %v, want %v", password, err, want)
		}
	}
}

// TestAFloodOfStrangersIsRefused: strangers beyond those who wait are refused at once, and known browsers do not wait behind them.
func TestAFloodOfStrangersIsRefused(t *testing.T) {
	d, accounts, _ := opened(t)
	u := addUser(t, d, accounts, audit.RoleSupport, "s@patchbay.example")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var all sync.WaitGroup
	var mu sync.Mutex
	refused := 0
	full := make(chan struct{})
	for range 200 {
		all.Go(func() {
			_, err := accounts.Authenticate(ctx, u.Email, "wrong but long", false)
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, account.ErrBusy) {
				if refused++; refused == 100 {
					close(full)
				}
			}
		})
	}
	select {
	case <-full:
	case <-t.Context().Done():
	}
	if _, err := accounts.Authenticate(t.Context(), u.Email, "a long password", true); err != nil {
		t.Errorf("a known browser: %v", err)
	}
	cancel()
	dbtest.Wait(t, &all, "the sign-ins")
	if _, err := accounts.Authenticate(t.Context(), u.Email, "a long password", false); err != nil {
		t.Errorf("a stranger after the flood: %v", err)
	}
	if _, err := accounts.Authenticate(t.Context(), u.Email, strings.Repeat("long ", 20_000), true); !errors.Is(err, account.ErrWrongPassword) {
		t.Errorf("a password that nobody can have: %v", err)
	}
}
