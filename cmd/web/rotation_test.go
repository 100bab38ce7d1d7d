package main

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
	"patchbay/internal/seal"
	"patchbay/internal/status"
	"patchbay/internal/webhooks"
)

// fleet are processes behind what sends each request to one that is there.
type fleet struct {
	*testing.T
	environ   []string
	addresses []string
	stops     []func() int
	key       string
}

// serve starts a process.
func (f *fleet) serve(n int, keyset string) {
	f.Helper()
	_, f.stops[n] = startServe(f.T, append(f.environ[:len(f.environ):len(f.environ)], "LISTEN="+f.addresses[n], "KEYSET="+keyset))
}

// stop stops a process.
func (f *fleet) stop(n int) {
	f.Helper()
	if code := f.stops[n](); code != 0 {
		f.Errorf("process %d stopped with %d", n, code)
	}
}

// deploy gives every process a keyset, one after the other. The readers go on.
func (f *fleet) deploy(keyset string, readers *load) {
	f.Helper()
	for n := range f.addresses {
		f.stop(n)
		f.serve(n, keyset)
		readers.await(hasToken, 100) // the others serve beside it, each with its own keyset
	}
}

// hasToken is the answer of a read that came to its token.
const hasToken = "200 <nil>"

// read asks for a token, of another process where one is just stopping.
func (f *fleet) read(connection string) (status int, err error) {
	first := rand.N(len(f.addresses))
	for n := range len(f.addresses) {
		p := program{http.Client{Timeout: 30 * time.Second}, "http://" + f.addresses[(first+n)%len(f.addresses)], f.key}
		var token struct {
			AccessToken string `json:"access_token"`
		}
		status, err = p.ask(http.MethodGet, "/api/v1/connections/"+connection+"/token", &token)
		p.CloseIdleConnections()
		if err == nil && status == http.StatusOK && token.AccessToken == "" {
			return 0, fmt.Errorf("no token")
		}
		if err == nil && status != http.StatusBadGateway {
			return status, nil
		}
	}
	return status, err
}

// TestAKeyTurnsOverUnderLoad: four processes read tokens that last six seconds, and whose refresh tokens rotate, while a key is added, promoted,
// everything sealed anew, and the old one taken out. No read fails, no connection is marked, and nothing is left under the old key.
func TestAKeyTurnsOverUnderLoad(t *testing.T) {
	const life = 6 * time.Second
	database, environ := operator(t)
	provider, err := sandbox.Start("127.0.0.1:0", sandbox.Options{CamInvoice: sandbox.CamInvoiceOptions{AccessLifetime: life}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { provider.Close() })
	for name, value := range provider.Settings() {
		if strings.HasPrefix(name, "CAMINVOICE_") {
			environ = append(environ, name+"="+value)
		}
	}
	f := &fleet{T: t, environ: environ, addresses: freeAddresses(t, 4), stops: make([]func() int, 4)}

	first := database.Open(t, pg.Options{MaxConns: 4})
	keyset, err := seal.Parse(database.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	old := keyset.Primary()
	merchant := dbtest.Merchant(t, first, "CH168 Shop")
	var ids []string
	for n := range 60 {
		account := fmt.Sprint("KHUID", 90100+n)
		issued, err := provider.Issue(sandbox.CamInvoice, account)
		if err != nil {
			t.Fatal(err)
		}
		g := connectors.Grant{Token: connectors.Token{Access: issued.Access, Type: "Bearer", Lifetime: life, Refresh: issued.Refresh}, Account: connectors.Account{ID: account, Name: account}}
		id, err := first.AddConnection(t.Context(), merchant.ID, sandbox.CamInvoice, "sandbox", g, first.Now().Add(-life*time.Duration(n)/60), connectors.Info{KeepAlive: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id.String())
	}
	_, secret, err := first.AddAPIKey(t.Context(), audit.System, db.APIKey{Name: "erp", Scopes: []string{db.ScopeTokens}})
	if err != nil {
		t.Fatal(err)
	}
	f.key = string(secret)
	dbtest.User(t, first, audit.RoleMerchant, "sok@shop.example", "correct horse battery", "CH168 Shop")
	if _, _, err := webhooks.New(webhooks.Options{DB: first}).Add(t.Context(), audit.System, "https://hooks.platform.example/", []webhooks.Type{webhooks.Test}); err != nil {
		t.Fatal(err)
	}

	for n := range f.addresses {
		f.serve(n, database.Keyset)
	}
	readers := newLoad(t)
	for range 4 {
		readers.add(5*time.Millisecond, func(int) string {
			status, err := f.read(ids[rand.N(len(ids))])
			return fmt.Sprint(status, " ", err)
		})
	}
	command := func(keyset string, args ...string) string {
		t.Helper()
		code, out, words := said(t, append(environ[:len(environ):len(environ)], "KEYSET="+keyset), "", args...)
		if code != 0 {
			t.Fatalf("%v: %s%s", args, out, words)
		}
		return strings.TrimSpace(out)
	}
	added := command(database.Keyset, "keys", "add")
	f.deploy(added, readers)
	promoted := command(added, "keys", "promote")
	f.deploy(promoted, readers)
	command(promoted, "reseal")
	retired := command(promoted, "keys", "retire", fmt.Sprint(old))
	f.deploy(retired, readers)
	database.Keyset = retired
	last := database.Open(t, pg.Options{MaxConns: 4})
	before := dbtest.Events(t, last, status.RefreshSaved)
	dbtest.Eventually(t, "refreshes with the last keyset", func() bool { return dbtest.Events(t, last, status.RefreshSaved) >= before+len(ids)/2 })
	readers.stop()

	uses, err := last.KeyUses(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range uses {
		if !last.Keyset.Has(u.Key) {
			t.Errorf("%d of %s are under key %d", u.Rows, u.Table, u.Key)
		}
	}
	if len(uses) < 5 {
		t.Errorf("what is sealed: %v", uses)
	}
	marked, err := pg.One(t.Context(), last.Pool, "count", pgx.RowTo[int64], `SELECT count(*) FROM connections WHERE problem <> '' OR failing_since IS NOT NULL`)
	if err != nil || marked != 0 {
		t.Errorf("%d connections are marked, %v", marked, err)
	}
	for what, kind := range map[string]status.Kind{"rejected": status.RefreshRejected, "our own fault": status.RefreshClientRejected, "forged": status.RowForged} {
		if n := dbtest.Events(t, last, kind); n != 0 {
			t.Errorf("%d events: %s", n, what)
		}
	}
	if twice := provider.DoubleSpends(); len(twice) > 0 {
		t.Errorf("spent twice: %v", twice)
	}
	for answer, times := range readers.answers {
		if answer != hasToken {
			t.Errorf("%d reads ended with %s", times, answer)
		}
	}
	for n := range f.addresses {
		f.stop(n)
	}
}
