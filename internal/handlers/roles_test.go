package handlers

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"patchbay/internal/db"
)

// TestEveryRouteForEveryRole walks the table of routes as everybody who may come by, and compares. Nobody is sent to sign in, to
// a merchant the back office and other merchants' things do not exist, staff are told that something is not theirs.
func TestEveryRouteForEveryRole(t *testing.T) {
	h := newHouse(t, nil)
	own, other := h.merchant("CH168 Shop"), h.merchant("Other Shop")
	helper, boss := h.staff(db.RoleSupport), h.staff(db.RoleAdmin)
	ctx := context.Background()
	connection := db.NewID()
	for _, sql := range []string{
		`INSERT INTO connections (id, merchant_id, provider, environment, account_id, account_name, connected_at) VALUES ($1, $2, 'caminvoice', 'sandbox', 'KHUID1', 'CH168 Co., Ltd', now())`,
		`INSERT INTO grants (connection_id, provider, environment) SELECT id, provider, environment FROM connections WHERE id = $1 AND merchant_id = $2`,
	} {
		if _, err := h.db.Pool().Exec(ctx, sql, connection, own.merchant); err != nil {
			t.Fatal(err)
		}
	}
	if got := own.post("/connect/caminvoice"); got.status != http.StatusSeeOther {
		t.Fatalf("begin: %d %s", got.status, got.h1())
	}
	var reference string
	if err := h.db.Pool().QueryRow(ctx, `SELECT reference FROM flows`).Scan(&reference); err != nil {
		t.Fatal(err)
	}
	link, _, err := h.db.AddLink(ctx, db.System(), db.LinkReconnect, db.ID{}, connection)
	if err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer(
		"/connections/{id}", "/connections/"+connection.String(), "/admin/merchants/{id}", "/admin/merchants/"+own.merchant.String(),
		"{provider}", "caminvoice", "{reference}", reference, "/reconnect/{secret}", "/reconnect/"+string(link),
		"{secret}", "x", "{id}", db.NewID().String(), "{outcome}", "denied", "{$}", "",
	)
	people := []struct {
		name string
		who  who
		*person
	}{
		{"nobody", nobody, h.visitor("")}, {"the merchant", merchant, own}, {"another merchant", merchant, other}, {"support", support, helper}, {"an admin", admin, boss},
	}
	for _, one := range h.server.routes() {
		method, pattern, _ := strings.Cut(one.pattern, " ")
		path := fill.Replace(pattern)
		for _, p := range people {
			var got answer
			if method == http.MethodPost {
				got = p.post(path)
			} else {
				got = p.get(path)
			}
			if pattern == "/logout" && p.who != nobody {
				p.signIn("")
			}
			toLogin := got.status == http.StatusSeeOther && (got.location == "/login" || strings.HasPrefix(got.location, "/login?"))
			switch {
			case one.who&p.who != 0:
				if got.status == http.StatusForbidden || toLogin && pattern != "/logout" || got.status >= 500 {
					t.Errorf("%s as %s: %d %s", one.pattern, p.name, got.status, got.location)
				}
				others := p.name == "another merchant" && (strings.Contains(pattern, "{id}") || strings.Contains(pattern, "{reference}") || strings.Contains(pattern, "/reconnect/"))
				if others && (got.status != http.StatusNotFound || strings.Contains(got.body, "CH168")) {
					t.Errorf("%s as another merchant: %d", one.pattern, got.status)
				}
			case p.who == nobody:
				if next := "/login?next=" + url.QueryEscape(path); !toLogin || method == http.MethodGet && got.location != next {
					t.Errorf("%s as nobody: %d %s", one.pattern, got.status, got.location)
				}
			case p.who == merchant && got.status != http.StatusNotFound, p.who != merchant && got.status != http.StatusForbidden:
				t.Errorf("%s as %s: %d", one.pattern, p.name, got.status)
			}
		}
	}
}

// TestWhoMayChangeWhat holds the table itself to what was promised: support cannot change users, merchants, providers or keys, no
// merchant enters the back office, and nobody but merchants connects.
func TestWhoMayChangeWhat(t *testing.T) {
	for _, one := range (&Server{}).routes() {
		method, path, _ := strings.Cut(one.pattern, " ")
		begins := func(prefixes ...string) bool {
			for _, prefix := range prefixes {
				if strings.HasPrefix(path, prefix) {
					return true
				}
			}
			return false
		}
		switch {
		case begins("/admin") && one.who&(nobody|merchant) != 0:
			t.Errorf("%s is open beyond staff", one.pattern)
		case method == http.MethodPost && begins("/admin/users", "/admin/merchants", "/admin/providers", "/admin/keys") && one.who != admin:
			t.Errorf("%s is open beyond admins", one.pattern)
		case method == http.MethodPost && (begins("/connect/", "/flows/") || strings.HasSuffix(path, "/reconnect")) && one.who != merchant:
			t.Errorf("%s is open beyond merchants", one.pattern)
		case begins("/connections/", "/account", "/flows/") && one.who&nobody != 0:
			t.Errorf("%s is open to nobody", one.pattern)
		}
	}
}
