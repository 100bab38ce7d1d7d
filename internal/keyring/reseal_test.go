package keyring_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/keyring"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

var daily = connectors.Info{KeepAlive: 24 * time.Hour}

// usesOf are what keys hold, by table, as text.
func usesOf(uses []keyring.KeyUse, key uint32) string {
	var all []string
	for _, u := range uses {
		if u.Key == key {
			all = append(all, fmt.Sprintf("%s %d", u.Table, u.Rows))
		}
	}
	return strings.Join(all, ", ")
}

// TestAKeyIsTakenOut fills every place that a key seals or signs, more than a batch of some, turns the keyset over, seals all anew, and opens it
// by the new key alone.
func TestAKeyIsTakenOut(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base := dbtest.Make(t)
	options := pg.Options{MaxConns: 6}
	before := base.Open(t, options)
	keyset, err := seal.Parse(base.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	old := keyset.Primary()
	u := dbtest.User(t, before, audit.RoleMerchant, "sok@example.com", "", "sok")
	var ids []pg.ID
	for n := range 450 {
		g := connectors.Grant{Token: connectors.Token{Access: fmt.Sprint("token ", n), Lifetime: time.Hour}, Account: connectors.Account{ID: fmt.Sprint(n)}}
		id, err := before.AddConnection(ctx, u.MerchantID, "acme", "sandbox", g, before.Now(), daily)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	for i, leased := range []bool{false, false, true} { // late answers, one of them under a lease
		sealed, err := before.SealGrant(connectors.Grant{Token: connectors.Token{Access: "late"}}, db.LateGrantPlace(ids[i], u.MerchantID, 1))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := before.Pool.Exec(ctx, `UPDATE grants SET late_grant = $2, late_generation = 1, lease_id = CASE WHEN $3 THEN gen_random_uuid() END,
			leased_until = CASE WHEN $3 THEN now() END WHERE connection_id = $1`, ids[i], sealed, leased); err != nil {
			t.Fatal(err)
		}
	}
	flow := dbtest.WaitingFlow(t, before, u, "another", before.Now(), pg.ID{})
	if err := notify.AddOutboxMail(ctx, before.Keyring, notify.OutboxMail{User: u.ID, Recipient: "sok@example.com", Subject: "Hello", Text: "a secret link"}); err != nil {
		t.Fatal(err)
	}
	_, secret, err := before.AddAPIKey(ctx, audit.System, db.APIKey{Name: "erp", MerchantID: u.MerchantID, Scopes: []string{db.ScopeTokens}})
	if err != nil {
		t.Fatal(err)
	}
	session := pg.NewSecret()
	if err := account.New(before).AddSession(ctx, session, u, "", ""); err != nil {
		t.Fatal(err)
	}
	m, err := before.Merchant(ctx, u.MerchantID)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := before.AddConnectLink(ctx, audit.System, db.ConnectLink{Merchant: m, Provider: "acme"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := before.Pool.Exec(ctx, `UPDATE grants SET sealed = set_bit(sealed, 200, 1 - get_bit(sealed, 200)) WHERE connection_id = $1`, ids[9]); err != nil {
		t.Fatal(err) // one that nothing opens
	}

	base = base.Rotated(t)
	d := base.Open(t, options)
	held, dead, err := d.RowsLostWith(ctx, old)
	if got, want := usesOf(held, old), "api_keys 1, connect_links 1, flows 1, grants 452, keyset_check 1, outbox 1, sessions 1, users 1"; err != nil || got != want || dead != 1 {
		t.Errorf("before: %s and %d, want %s; %v", got, dead, want, err)
	}
	said := map[string]int{}
	n, err := d.Reseal(ctx, d.OlderKeys(), 0, func(table string, rows int) { said[table] += rows })
	if err != nil || n != 449+2+7 || said["grants"] != 449+2 || said["keyset_check"] != 1 {
		t.Errorf("%d were sealed anew: %v, %v", n, said, err)
	}
	if held, dead, err := d.RowsLostWith(ctx, old); err != nil || usesOf(held, old) != "grants 1" || dead != 1 {
		t.Errorf("what is under a lease is held: %s and %d, %v", usesOf(held, old), dead, err)
	}
	if _, err := d.Pool.Exec(ctx, `UPDATE grants SET lease_id = NULL, leased_until = NULL`); err != nil {
		t.Fatal(err)
	}
	if n, err := d.Reseal(ctx, d.OlderKeys(), 0, nil); err != nil || n != 1 {
		t.Errorf("once the lease has ended %d are sealed anew, %v", n, err)
	}
	if held, dead, err := d.RowsLostWith(ctx, old); err != nil || len(held) != 0 || dead != 1 {
		t.Errorf("at last %s are held and %d do not open, %v", usesOf(held, old), dead, err)
	}

	last := base.Retired(t).Open(t, options)
	for i, id := range ids {
		r, err := last.ReadGrant(ctx, id)
		switch {
		case i == 9: // nothing opens it
		case err != nil || r.Sealed || r.Token.Access != fmt.Sprint("token ", i):
			t.Fatalf("grant %d: %q, %v", i, r.Token.Access, err)
		}
	}
	if offer, err := last.FlowOffer(ctx, flow); err == nil {
		t.Errorf("a flow of before it was sealed anew opens: %v", offer)
	}
	if flow, err = last.FlowByID(ctx, flow.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := last.FlowOffer(ctx, flow); err != nil {
		t.Errorf("the flow: %v", err)
	}
	if mails, err := notify.OutboxMails(ctx, last.Keyring, 10); err != nil || len(mails) != 1 || mails[0].Text != "a secret link" {
		t.Errorf("the outbox: %v", err)
	}
	if _, err := last.APIKeyBySecret(ctx, secret); err != nil {
		t.Errorf("the key: %v", err)
	}
	if _, err := account.New(last).SignedInBy(ctx, session); err != nil {
		t.Errorf("the session: %v", err)
	}
	if page, err := last.ConnectLinks(ctx, pg.ID{}, "", 10); err != nil || len(page.Rows) != 1 {
		t.Errorf("the connect link: %d, %v", len(page.Rows), err)
	}
	for i := range 3 {
		kept, err := pg.One(ctx, last.Pool, "read late grant", pgx.RowTo[[]byte], `SELECT late_grant FROM grants WHERE connection_id = $1`, ids[i])
		if err != nil {
			t.Fatal(err)
		}
		if g, err := last.OpenGrant(kept, db.LateGrantPlace(ids[i], u.MerchantID, 1)); err != nil || g.Access != "late" {
			t.Errorf("a late grant: %v", err)
		}
	}
}

// TestEveryKeyedColumnIsCounted compares what KeyUses counts with the schema: a column that it does not know is never sealed anew, and is lost with
// the key that sealed it.
func TestEveryKeyedColumnIsCounted(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := dbtest.New(t)
	columns, err := pg.Collect(ctx, d.Pool, "read columns", pgx.RowTo[string], `SELECT table_name || '.' || column_name FROM information_schema.columns
		WHERE table_schema = 'public' AND data_type = 'bytea' AND column_name NOT LIKE '%hash' AND table_name NOT LIKE 'river%' ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	keyed := slices.Sorted(slices.Values(d.KeyedColumns()))
	columns = slices.DeleteFunc(columns, func(c string) bool { return c == "rate_limits.key" }) // a hash
	if !slices.Equal(columns, keyed) {
		t.Errorf("the schema has %v, of which are counted %v", columns, keyed)
	}
}

// TestOnlyOlderKeysAreReplacedByItself: while processes are made anew one after the other, one that still seals with the old key leaves what the
// newer one sealed.
func TestOnlyOlderKeysAreReplacedByItself(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	base := dbtest.Make(t)
	options := pg.Options{MaxConns: 4}
	k, err := seal.Parse(base.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	old := k.Primary()
	added, fresh, err := k.Add()
	if err != nil {
		t.Fatal(err)
	}
	promoted, err := added.Promote(fresh)
	if err != nil {
		t.Fatal(err)
	}
	open := func(k *seal.Keyset) *db.DB {
		d, err := db.Open(ctx, base.URL, k, options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(d.Close)
		return d
	}
	one, two, behind := open(k), open(promoted), open(added)
	add := func(d *db.DB, n int) {
		for range n {
			if _, _, err := d.AddAPIKey(ctx, audit.System, db.APIKey{Name: "erp", Scopes: []string{db.ScopeTokens}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(one, 3)
	add(two, 2)
	older := func(what string, d *db.DB, done int, left int64) {
		t.Helper()
		n, stays, err := d.ResealOlder(ctx, time.Minute, 0)
		if err != nil || n != done || stays != left {
			t.Errorf("%s: %d sealed anew and %d left, want %d and %d; %v", what, n, stays, done, left, err)
		}
		if shown, err := d.CountOldSeals(ctx); err != nil || shown != left {
			t.Errorf("%s: %d are shown as old, want %d; %v", what, shown, left, err)
		}
	}
	older("with one key", one, 0, 0)
	older("with a new key that does not seal yet", behind, 0, 0)
	uses, err := two.KeyUses(ctx)
	if err != nil || usesOf(uses, old) != "api_keys 3, keyset_check 1" || usesOf(uses, fresh) != "api_keys 2" {
		t.Errorf("the old key has %s, the new one %s; %v", usesOf(uses, old), usesOf(uses, fresh), err)
	}
	older("with the new key sealing", two, 4, 0)
	older("once more", two, 0, 0)
	older("with the old key sealing still", behind, 0, 0)
	if n, err := behind.Reseal(ctx, behind.OtherKeys(), 0, nil); err != nil || n != 6 { // asked for: back to the old key
		t.Errorf("back: %d, %v", n, err)
	}
}

// TestSealingAnewLosesNoAnswer saves answers to refreshes while grants are sealed anew, over and over.
func TestSealingAnewLosesNoAnswer(t *testing.T) {
	t.Parallel()
	base := dbtest.Make(t)
	options := pg.Options{MaxConns: 6}
	before := base.Open(t, options)
	m := dbtest.Merchant(t, before, "Shop")
	grant := func(n int) connectors.Grant {
		return connectors.Grant{Token: connectors.Token{Access: fmt.Sprint("token ", n), Lifetime: time.Hour}, Account: connectors.Account{ID: "a"}}
	}
	id, err := before.AddConnection(t.Context(), m.ID, "acme", "sandbox", grant(0), before.Now(), daily)
	if err != nil {
		t.Fatal(err)
	}
	after := base.Rotated(t).Open(t, options)
	ctx, stop := context.WithCancel(t.Context())
	var sealing sync.WaitGroup
	for range 2 {
		sealing.Go(func() {
			for ctx.Err() == nil {
				if _, err := after.Reseal(ctx, after.OlderKeys(), 0, nil); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	for n := range 200 {
		by := before
		if n%3 == 0 {
			by = after
		}
		sealed, err := by.SealGrant(grant(n+1), db.GrantPlace(id, m.ID, int64(n+2)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := by.Pool.Exec(t.Context(), `UPDATE grants SET sealed = $2, generation = $3 WHERE connection_id = $1`, id, sealed, n+2); err != nil {
			t.Fatal(err)
		}
		if r, err := after.ReadGrant(t.Context(), id); err != nil || r.Token.Access != fmt.Sprint("token ", n+1) {
			t.Fatalf("after answer %d: %q, sealed %v, %v", n+1, r.Token.Access, r.Sealed, err)
		}
	}
	stop()
	dbtest.Wait(t, &sealing, "the sealing")
}
