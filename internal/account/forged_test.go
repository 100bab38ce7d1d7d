package account_test

import (
	"errors"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/pg"
)

// TestRowsWrittenWithoutTheKeysetSignInNobody writes rows as the serving role can, without the keyset. Each statement gives the attacker,
// a merchant's user with a session, a password and a link of their own, the access of the admin, or gives back what was ended.
func TestRowsWrittenWithoutTheKeysetSignInNobody(t *testing.T) {
	const (
		session  = "the session"
		password = "the password"
		link     = "the link"
	)
	for what, c := range map[string]struct {
		sql    string // $1 the attacker's id, $2 the admin's
		by     string
		before func(t *testing.T, accounts *account.Store, attacker account.User)
	}{
		"their own session is pointed at an admin": {`UPDATE sessions SET user_id = $2 WHERE user_id = $1`, session, nil},
		"their own role is changed":                {`UPDATE users SET role = 'admin', merchant_id = NULL WHERE id = $1 AND $2::uuid IS NOT NULL`, session, nil},
		"their own role, before they sign in":      {`UPDATE users SET role = 'admin', merchant_id = NULL WHERE id = $1 AND $2::uuid IS NOT NULL`, password, nil},
		"their own merchant is changed": {
			`WITH m AS (INSERT INTO merchants (id, name, created_at) SELECT gen_random_uuid(), 'Shop', now() WHERE $2::uuid IS NOT NULL RETURNING id)
			UPDATE users SET merchant_id = (SELECT id FROM m) WHERE id = $1`, session, nil,
		},
		"an admin is given their password": {
			`UPDATE users a SET password_hash = u.password_hash FROM users u WHERE u.id = $1 AND a.id = $2`, "the admin's address and the password", nil,
		},
		"an admin is given their address": {
			`UPDATE users SET email = 'thief@elsewhere.example' WHERE id = $2 AND $1::uuid IS NOT NULL`, "a link to the address", nil,
		},
		"a password link is pointed at an admin": {`UPDATE links SET user_id = $2 WHERE user_id = $1`, link, nil},
		"a password link has another kind": {
			`UPDATE links SET kind = 'invitation' WHERE user_id = $1 AND $2::uuid IS NOT NULL`, "the link as an invitation", nil,
		},
		"a password link that is over lives on": {
			`UPDATE links SET expires_at = expires_at + interval '1 year' WHERE user_id = $1 AND $2::uuid IS NOT NULL`, link, nil,
		},
		"a lock is lifted": {
			`UPDATE users SET locked_at = NULL WHERE id = $1 AND $2::uuid IS NOT NULL`, password,
			func(t *testing.T, accounts *account.Store, attacker account.User) {
				t.Helper()
				if err := accounts.LockUser(t.Context(), audit.System, attacker.ID); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			d, accounts, _ := opened(t)
			ctx := t.Context()
			admin := addUser(t, d, accounts, audit.RoleAdmin, "boss@patchbay.example")
			addUser(t, d, accounts, audit.RoleAdmin, "other@patchbay.example")
			thief := addUser(t, d, accounts, audit.RoleMerchant, "thief@shop.example")
			secret := pg.NewSecret()
			if err := accounts.AddSession(ctx, secret, thief, "", ""); err != nil {
				t.Fatal(err)
			}
			spent, _, err := accounts.AddLink(ctx, audit.System, account.LinkPassword, thief.ID, pg.ID{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := accounts.SignedInBy(ctx, secret); err != nil {
				t.Fatalf("the session as it was made: %v", err)
			}
			if _, err := accounts.Link(ctx, account.LinkPassword, spent); err != nil {
				t.Fatalf("the link as it was made: %v", err)
			}
			if c.before != nil {
				c.before(t, accounts, thief)
			}
			if _, err := d.Pool.Exec(ctx, c.sql, thief.ID, admin.ID); err != nil {
				t.Fatal(err)
			}
			var got error
			want := account.ErrInvalidLink
			switch c.by {
			case session:
				_, got = accounts.SignedInBy(ctx, secret)
				want = pg.ErrNotFound
			case password:
				_, got = accounts.Authenticate(ctx, thief.Email, "a long password", false)
				want = account.ErrWrongPassword
			case "the admin's address and the password":
				_, got = accounts.Authenticate(ctx, admin.Email, "a long password", false)
				want = account.ErrWrongPassword
			case "a link to the address":
				_, got = accounts.UserByEmail(ctx, "thief@elsewhere.example")
				want = pg.ErrNotFound
			case link:
				_, got = accounts.Link(ctx, account.LinkPassword, spent)
			default:
				_, got = accounts.Link(ctx, account.LinkInvitation, spent)
			}
			if !errors.Is(got, want) {
				t.Errorf("err = %v, want %v", got, want)
			}
		})
	}
}

// TestForgedRows inserts whole rows with secrets of the attacker's own.
func TestForgedRows(t *testing.T) {
	t.Parallel()
	d, accounts, clock := opened(t)
	ctx := t.Context()
	admin := addUser(t, d, accounts, audit.RoleAdmin, "boss@patchbay.example")
	now := clock.Now()
	id := make([]byte, 36) // of the keyset's key, before what it did not make
	if err := d.Pool.QueryRow(ctx, `SELECT substring(mac FROM 1 FOR 4) FROM users WHERE id = $1`, admin.ID).Scan(&id); err != nil {
		t.Fatal(err)
	}
	for _, mac := range []any{nil, []byte{}, append(id, make([]byte, 32)...)} {
		secret := pg.NewSecret()
		if _, err := d.Pool.Exec(ctx, `INSERT INTO sessions (id_hash, user_id, created_at, seen_at, expires_at, mac) VALUES ($1, $2, $3, $3, $4, $5)`,
			secret.Hash(), admin.ID, now, now.Add(time.Hour), mac); err != nil {
			t.Fatal(err)
		}
		if _, err := accounts.SignedInBy(ctx, secret); !errors.Is(err, pg.ErrNotFound) {
			t.Errorf("a forged session: %v", err)
		}
		if _, err := d.Pool.Exec(ctx, `INSERT INTO links (id, kind, secret_hash, user_id, created_at, expires_at, mac) VALUES (gen_random_uuid(), 'password', $1, $2, $3, $4, $5)`,
			secret.Hash(), admin.ID, now, now.Add(time.Hour), mac); err != nil {
			t.Fatal(err)
		}
		if _, err := accounts.SetPassword(ctx, account.LinkPassword, secret, "", "a stolen account", "", nil); !errors.Is(err, account.ErrInvalidLink) {
			t.Errorf("a forged password link: %v", err)
		}
	}
	// What was forged is not signed by a change that is meant.
	if _, err := d.Pool.Exec(ctx, `UPDATE users SET password_hash = 'x' WHERE id = $1`, admin.ID); err != nil {
		t.Fatal(err)
	}
	if err := accounts.SetRole(ctx, audit.System, admin.ID, audit.RoleSupport); err == nil {
		t.Error("a change signed a forged row")
	}
}
