package keyring_test

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// logged returns what d logs from now on.
func logged(d *db.DB) *dbtest.Log {
	var l dbtest.Log
	d.Log = slog.New(slog.NewTextHandler(&l, nil))
	return &l
}

func TestAForgedRowIsReportedOnceAnHour(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base := dbtest.Make(t)
	clock := dbtest.NewClock(time.Now())
	one, two := base.Open(t, pg.Options{Clock: clock.Clock, MaxConns: 4}), base.Open(t, pg.Options{Clock: clock.Clock, MaxConns: 4})
	log := logged(one)
	key, secret, err := one.AddAPIKey(ctx, audit.System, db.APIKey{Name: "erp", Scopes: []string{db.ScopeTokens}})
	if err != nil {
		t.Fatal(err)
	}
	accounts := account.New(one)
	user := dbtest.User(t, one, audit.RoleAdmin, "boss@patchbay.example", "a long password", "")
	session := pg.NewSecret()
	if err := accounts.AddSession(ctx, session, user, "", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Pool.Exec(ctx, `UPDATE api_keys SET scopes = '{tokens:read,connections:refresh}' WHERE id = $1`, key.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := one.Pool.Exec(ctx, `UPDATE sessions SET mac = NULL`); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		for _, d := range []*db.DB{one, two} {
			if _, _, err := d.ReadToken(ctx, secret, pg.NewID()); !errors.Is(err, db.ErrNoAPIKey) {
				t.Fatalf("a forged key: %v", err)
			}
		}
		if _, err := accounts.SignedInBy(ctx, session); !errors.Is(err, pg.ErrNotFound) {
			t.Fatalf("a forged session: %v", err)
		}
	}
	dbtest.Eventually(t, "an event for each row", func() bool { return dbtest.Events(t, one, status.RowForged) >= 2 })
	dbtest.Eventually(t, "what both processes report is counted", func() bool { // two's report is refused by the limit
		var wait time.Duration
		wait, err = two.Exhausted(ctx, "forged api_keys "+key.ID.String(), pg.Limit{Burst: 1, Every: time.Hour})
		return err == nil && wait > 0
	})
	if n := dbtest.Events(t, one, status.RowForged); n != 2 {
		t.Errorf("%d events of two rows", n)
	}
	if n := log.Count("has no valid MAC"); n != 2 {
		t.Errorf("%d lines of two rows", n)
	}
	if got, want := one.ForgedRows(), map[string]int64{"api_keys": 20, "sessions": 20, "users": 0, "identities": 0, "links": 0, "connect_links": 0}; !maps.Equal(got, want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	if one.LacksKey() != 0 {
		t.Error("a forged row is no lacking key")
	}
	for _, hidden := range []string{string(secret), string(session)} {
		if log.Count(hidden) > 0 {
			t.Error("a secret is in the log")
		}
	}
}

// TestARowOfAKeyThatThisProcessLacksIsNotCalledForged has one process sign with a new key while another does not know it yet.
func TestARowOfAKeyThatThisProcessLacksIsNotCalledForged(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base := dbtest.Make(t)
	behind := base.Open(t, pg.Options{MaxConns: 4})
	log := logged(behind)
	base = base.Rotated(t)
	ahead := base.Open(t, pg.Options{MaxConns: 4})
	m := dbtest.Merchant(t, ahead, "Shop")
	key, secret, err := ahead.AddAPIKey(ctx, audit.System, db.APIKey{Name: "erp", MerchantID: m.ID, Scopes: []string{db.ScopeTokens}})
	if err != nil {
		t.Fatal(err)
	}
	signedIn := account.New(ahead)
	user := dbtest.User(t, ahead, audit.RoleAdmin, "boss@patchbay.example", "a long password", "")
	session := pg.NewSecret()
	if err := signedIn.AddSession(ctx, session, user, "", ""); err != nil {
		t.Fatal(err)
	}
	link, _, err := signedIn.AddLink(ctx, audit.System, account.LinkPassword, user.ID, pg.ID{})
	if err != nil {
		t.Fatal(err)
	}
	accounts := account.New(behind)
	before := dbtest.Dump(t, behind)
	if behind.LacksKey() != 0 {
		t.Error("a key is lacking before any row was read")
	}
	for what, do := range map[string]func() error{
		"a token is read":      func() error { _, _, err := behind.ReadToken(ctx, secret, pg.NewID()); return err },
		"the key is read":      func() error { _, err := behind.APIKeyBySecret(ctx, secret); return err },
		"with its connection":  func() error { _, _, err := behind.ConnectionByAPIKey(ctx, secret, pg.NewID()); return err },
		"somebody is there":    func() error { _, err := accounts.SignedInBy(ctx, session); return err },
		"somebody signs in":    func() error { _, err := accounts.Authenticate(ctx, user.Email, "a long password", true); return err },
		"a link is opened":     func() error { _, err := accounts.Link(ctx, account.LinkPassword, link); return err },
		"a user is looked for": func() error { _, err := accounts.UserByEmail(ctx, user.Email); return err },
		"a role is changed":    func() error { return accounts.SetRole(ctx, audit.System, user.ID, audit.RoleSupport) },
	} {
		if err := do(); !errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if behind.LacksKey() == 0 || log.Count("key unknown") != 1 {
		t.Errorf("key %d is lacking, %d lines", behind.LacksKey(), log.Count("key unknown"))
	}
	if after := dbtest.Dump(t, behind); after != before || dbtest.Events(t, behind, status.RowForged) != 0 || behind.ForgedRows()["api_keys"] != 0 {
		t.Error("something was written or called forged")
	}
	if k, err := ahead.APIKeyBySecret(ctx, secret); err != nil || k.ID != key.ID {
		t.Errorf("where the key is known: %v", err)
	}
}

// TestSignedRowsAreSignedAnew signs rows of every kind, more than one batch of them, turns the key over, and drops the old one.
func TestSignedRowsAreSignedAnew(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base := dbtest.Make(t)
	before := base.Open(t, pg.Options{MaxConns: 4})
	m := dbtest.Merchant(t, before, "Shop")
	_, secret, err := before.AddAPIKey(ctx, audit.System, db.APIKey{Name: "erp", MerchantID: m.ID, Scopes: []string{db.ScopeTokens}})
	if err != nil {
		t.Fatal(err)
	}
	user := dbtest.User(t, before, audit.RoleAdmin, "boss@patchbay.example", "a long password", "")
	session := pg.NewSecret()
	if err := account.New(before).AddSession(ctx, session, user, "", ""); err != nil {
		t.Fatal(err)
	}
	const links = 2100
	dbtest.ChangeSigned(t, before, `INSERT INTO links (id, kind, secret_hash, user_id, created_at, expires_at)
		SELECT gen_random_uuid(), 'password', sha256(n::text::bytea), $1, now(), now() + interval '1 hour' FROM generate_series(1, $2::integer) AS n`, user.ID, links)
	if _, err := before.Pool.Exec(ctx, `UPDATE links SET expires_at = expires_at + interval '1 year' WHERE secret_hash = sha256('7')`); err != nil {
		t.Fatal(err)
	}
	counts := func(d *db.DB) string {
		t.Helper()
		all, err := d.CheckSigned(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(all)
	}
	if got, want := counts(before), "[{users 1 0 0 0} {identities 0 0 0 0} {sessions 1 0 0 0} {links 2100 0 0 1} {connect_links 0 0 0 0} {api_keys 1 0 0 0}]"; got != want {
		t.Errorf("before: %s, want %s", got, want)
	}
	base = base.Rotated(t)
	both := base.Open(t, pg.Options{MaxConns: 4})
	if got, want := counts(both), "[{users 1 1 0 0} {identities 0 0 0 0} {sessions 1 1 0 0} {links 2100 2099 0 1} {connect_links 0 0 0 0} {api_keys 1 1 0 0}]"; got != want {
		t.Errorf("with both keys: %s, want %s", got, want)
	}
	if n, err := both.Reseal(ctx, both.OlderKeys(), 0, nil); err != nil || n != links-1+4 { // and the word of the first start
		t.Errorf("%d signed anew, %v", n, err)
	}
	if n, err := both.Reseal(ctx, both.OlderKeys(), 0, nil); err != nil || n != 0 {
		t.Errorf("%d signed anew the second time, %v", n, err)
	}
	if got, want := counts(both), "[{users 1 0 0 0} {identities 0 0 0 0} {sessions 1 0 0 0} {links 2100 0 0 1} {connect_links 0 0 0 0} {api_keys 1 0 0 0}]"; got != want {
		t.Errorf("signed anew: %s, want %s", got, want)
	}
	if got, want := counts(before), "[{users 1 0 1 0} {identities 0 0 0 0} {sessions 1 0 1 0} {links 2100 0 2099 1} {connect_links 0 0 0 0} {api_keys 1 0 1 0}]"; got != want {
		t.Errorf("by the old key alone: %s, want %s", got, want)
	}
	base = base.Retired(t)
	last := base.Open(t, pg.Options{MaxConns: 4})
	if _, err := last.APIKeyBySecret(ctx, secret); err != nil {
		t.Errorf("a key, by the new key alone: %v", err)
	}
	if _, err := account.New(last).SignedInBy(ctx, session); err != nil {
		t.Errorf("a session, by the new key alone: %v", err)
	}
}
