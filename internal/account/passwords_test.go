package account_test

import (
	"errors"
	"testing"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

func TestAuthenticate(t *testing.T) {
	d, accounts, _ := opened(t)
	ctx := t.Context()
	u := addUser(t, d, accounts, audit.RoleMerchant, "Sok@ch168.example")
	if got, err := accounts.Authenticate(ctx, " sok@CH168.example ", "a long password", false); err != nil || got.ID != u.ID {
		t.Errorf("the right password: %v, %v", got.ID, err)
	}
	invited, err := accounts.AddUser(ctx, audit.System, account.NewUser{Role: audit.RoleSupport, Email: "new@patchbay.example"})
	if err != nil {
		t.Fatal(err)
	}
	for name, try := range map[string][2]string{
		"wrong": {u.Email, "another password"}, "no such user": {"nobody@ch168.example", "a long password"},
		"invited, without one": {invited.Email, ""}, "empty": {u.Email, ""},
	} {
		if _, err := accounts.Authenticate(ctx, try[0], try[1], false); !errors.Is(err, account.ErrWrongPassword) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := accounts.LockUser(ctx, audit.System, u.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.Authenticate(ctx, u.Email, "a long password", false); !errors.Is(err, account.ErrWrongPassword) {
		t.Errorf("locked: %v", err)
	}
}

func TestAuthenticateRenewsOldHashes(t *testing.T) {
	d, accounts, _ := opened(t)
	ctx := t.Context()
	u := addUser(t, d, accounts, audit.RoleAdmin, "admin@patchbay.example")
	// "a long password" as 8 MiB, once over.
	const old = "$argon2id$v=19$m=8192,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$6mjSO2hB86okIVH7ExMK/MX/lQ0v4OCtUgSZMsrjWE8"
	hash := func() (h string) {
		t.Helper()
		if err := d.Pool.QueryRow(ctx, `SELECT password_hash FROM users WHERE id = $1`, u.ID).Scan(&h); err != nil {
			t.Fatal(err)
		}
		return h
	}
	dbtest.ChangeSigned(t, d, `UPDATE users SET password_hash = $2, mac = NULL WHERE id = $1`, u.ID, old)
	if _, err := accounts.Authenticate(ctx, u.Email, "a long password", false); err != nil {
		t.Fatal(err)
	}
	if h := hash(); len(h) < 30 || h[:29] != "$argon2id$v=19$m=19456,t=2,p=" {
		t.Errorf("the hash was not renewed: %.30s", h)
	}
	if _, err := accounts.Authenticate(ctx, u.Email, "a long password", false); err != nil {
		t.Errorf("after renewing: %v", err)
	}
}

func TestChangePasswordEndsOtherSessions(t *testing.T) {
	d, accounts, _ := opened(t)
	ctx := t.Context()
	u := addUser(t, d, accounts, audit.RoleSupport, "s@patchbay.example")
	here, there := pg.NewSecret(), pg.NewSecret()
	for _, secret := range []pg.Secret{here, there} {
		if err := accounts.AddSession(ctx, secret, u, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	by := audit.Actor{Role: u.Role, ID: u.ID}
	if _, err := accounts.ChangePassword(ctx, by, u, "not the old one", "a longer password", account.Session{Hash: here.Hash()}, nil); !errors.Is(err, account.ErrWrongPassword) {
		t.Errorf("with a wrong old one: %v", err)
	}
	if _, err := accounts.ChangePassword(ctx, by, u, "a long password", "a longer password", account.Session{Hash: here.Hash()}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.SignedInBy(ctx, here); err != nil {
		t.Errorf("this session: %v", err)
	}
	if _, err := accounts.SignedInBy(ctx, there); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("the other session: %v", err)
	}
	if _, err := accounts.Authenticate(ctx, u.Email, "a long password", false); !errors.Is(err, account.ErrWrongPassword) {
		t.Errorf("the old password: %v", err)
	}
}
