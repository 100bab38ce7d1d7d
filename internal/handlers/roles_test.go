package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/bulk"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/webhooks"
)

// visitors are those who come by every route, in the order of routeAnswers' letters.
var visitors = []string{"nobody", "the merchant", "another merchant", "support", "an admin", "the browser of a connect link"}

// routeAnswers is what each of them gets: + is let in, L is asked to sign in, F is told that it is not for them, and for . there is
// no such page. It is written out, and not derived from the table of routes, so that a change there is a change here too.
func routeAnswers() map[string]string {
	return map[string]string{
		"GET /login":                              "++++++",
		"POST /login":                             "++++++",
		"GET /login/sso":                          "......", // it is not set up
		"GET /login/sso/callback":                 "......",
		"POST /login/passkey":                     "......", // no passkey belongs to an IP address
		"POST /passkey-challenges":                "......",
		"POST /logout":                            "LLLLLL", // to the page of those who are signed out
		"POST /language":                          "++++++",
		"GET /login/second-factor":                "L..++L", // leads on: they have given it
		"POST /login/second-factor":               "L..++L",
		"GET /account/second-factor":              "L..++L",
		"POST /account/second-factor":             "L..++L",
		"GET /{$}":                                "L++++L",
		"GET /connect/{provider}":                 "L++FFL",
		"POST /connect/{provider}":                "L++FFL",
		"GET /connect/{provider}/callback":        "++++++",
		"POST /connect/{provider}/callback":       "++++++", // leads to the GET
		"GET /connect/{provider}/ended/{outcome}": "++++++",
		"GET /providers/{provider}/logo":          "......", // this one has none
		"GET /flows/{reference}":                  "L+.++L",
		"POST /flows/{reference}/choice":          "L+.FFL",
		"GET /ended":                              "L++FFL",
		"GET /connections/{id}":                   "L+.++L",
		"GET /connections/{id}/refresh":           "L++++L", // leads to its page
		"POST /connections/{id}/refresh":          "L+.++L",
		"POST /connections/{id}/nickname":         "L+.++L",
		"POST /connections/{id}/reconnect":        "L+.FFL",
		"GET /connections/{id}/disconnect":        "L+.F+L",
		"POST /connections/{id}/disconnect":       "L+.F+L",
		"POST /connections/{id}/ask":              "L..++L",
		"POST /connections/{id}/notes":            "L..++L",
		"GET /account":                            "L++++L",
		"POST /account":                           "L++++L",
		"GET /password":                           "++++++",
		"POST /password":                          "++++++",
		"GET /password/{secret}":                  "++++++",
		"POST /password/{secret}":                 "++++++",
		"GET /invitations/{secret}":               "++++++",
		"POST /invitations/{secret}":              "++++++",
		"GET /links/{secret}":                     "++++++",
		"POST /links/{secret}":                    "++++++", // the first browser has it, and the others are told so
		"GET /reconnect/{secret}":                 "L+.++L",
		"POST /reconnect/{secret}":                "L+.FFL",
		"GET /admin":                              "L..++L",
		"POST /admin/mail":                        "L..F+L",
		"GET /admin/connections":                  "L..++L",
		"GET /admin/connections.csv":              "L..++L",
		"GET /admin/connections.xlsx":             "L..++L",
		"POST /admin/bulk":                        "L..++L",
		"GET /admin/bulk/{id}":                    "L..++L",
		"POST /admin/bulk/{id}":                   "L..++L",
		"GET /admin/providers":                    "L..++L",
		"GET /admin/providers/{provider}":         "L..++L",
		"POST /admin/providers/{provider}":        "L..F+L",
		"GET /admin/events":                       "L..++L",
		"GET /admin/events.csv":                   "L..++L",
		"GET /admin/events.xlsx":                  "L..++L",
		"POST /admin/events":                      "L..F+L",
		"GET /admin/keys":                         "L..++L",
		"POST /admin/keys":                        "L..F+L",
		"POST /admin/keys/{id}/revoke":            "L..F+L",
		"GET /admin/webhooks":                     "L..++L",
		"POST /admin/webhooks":                    "L..F+L",
		"POST /admin/webhooks/{id}":               "L..F+L",
		"POST /admin/webhooks/deliveries/{id}":    "L..F+L",
		"GET /admin/merchants":                    "L..++L",
		"POST /admin/merchants":                   "L..F+L",
		"GET /admin/merchants/{id}":               "L..++L",
		"GET /admin/merchants/{id}/erase":         "L..F+L",
		"POST /admin/merchants/{id}/erase":        "L..F+L", // asks for its name
		"GET /admin/users":                        "L..++L",
		"POST /admin/users":                       "L..F+L",
		"POST /admin/users/{id}":                  "L..F+L",
		"GET /outbox":                             "++++++", // of the demo and of tests; elsewhere there is none
		"GET /outbox/{id}":                        "......", // there is no such mail
	}
}

// TestEveryRouteForEveryRole walks the table of routes as everybody who may come by, and compares.
func TestEveryRouteForEveryRole(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	own, other := h.merchant("CH168 Shop"), h.merchant("Other Shop")
	people := []*person{h.visitor(""), own, other, h.staff(audit.RoleSupport), h.staff(audit.RoleAdmin)}
	fill := h.things(own, people[4])
	people = append(people, h.linkBrowser(own.merchant))
	want := routeAnswers()
	for _, one := range h.server.routes() {
		letters, listed := want[one.pattern]
		if !listed {
			t.Errorf("%s: nobody has said who may use it", one.pattern)
			continue
		}
		delete(want, one.pattern)
		method, pattern, _ := strings.Cut(one.pattern, " ")
		path := fill.Replace(pattern)
		for i, p := range people {
			got := p.get
			if method == http.MethodPost {
				got = func(path string) answer { return p.post(path) }
			}
			a := got(path)
			if letter := letterOf(a); letter != letters[i:i+1] {
				t.Errorf("%s as %s: %s (%d %s), want %s", one.pattern, visitors[i], letter, a.status, a.location, letters[i:i+1])
			}
			if p == other && letters[i] == '.' && strings.Contains(a.body, "CH168") {
				t.Errorf("%s tells another merchant of what is not theirs", one.pattern)
			}
			if i == 0 && letters[i] == 'L' && method == http.MethodGet && a.location != "/login?next="+url.QueryEscape(path) {
				t.Errorf("%s as nobody leads to %s", one.pattern, a.location)
			}
			if pattern == "/logout" && p.email != "" {
				p.signIn("")
			}
		}
	}
	for pattern := range want {
		t.Errorf("%s is no route any more", pattern)
	}
	// What is for programs asks everybody for a key, whoever is signed in.
	for _, path := range []string{"/api/v1/connections", "/api/v1/connections/" + pg.NewID().String(), "/api/v1/connections/" + pg.NewID().String() + "/token"} {
		for i, p := range people {
			if a := p.get(path); a.status != http.StatusUnauthorized {
				t.Errorf("%s as %s without a key: %d", path, visitors[i], a.status)
			}
		}
	}
}

func letterOf(a answer) string {
	switch {
	case a.status == http.StatusSeeOther && (a.location == "/login" || strings.HasPrefix(a.location, "/login?")):
		return "L"
	case a.status == http.StatusNotFound:
		return "."
	case a.status == http.StatusForbidden:
		return "F"
	case a.status >= 500:
		return fmt.Sprint(a.status)
	default:
		return "+"
	}
}

// things makes one of each that addresses name, the merchant's where they belong to one, and fills addresses in.
func (h *testServer) things(own, boss *person) *strings.Replacer {
	h.t.Helper()
	ctx := context.Background()
	user := func(p *person) pg.ID {
		u, err := h.accounts.UserByEmail(ctx, p.email)
		if err != nil {
			h.t.Fatal(err)
		}
		return u.ID
	}
	by := audit.Actor{Role: audit.RoleAdmin, ID: user(boss)}
	connection := dbtest.Connection(h.t, h.db, own.merchant, "caminvoice", "KHUID00001234", "CH168 Co., Ltd")
	disconnected := dbtest.Connection(h.t, h.db, own.merchant, "caminvoice", "KHUID00001235", "CH168 Co., Ltd") // on the way
	if got := own.post("/connect/caminvoice"); got.status != http.StatusSeeOther {
		h.t.Fatalf("begin: %d %s", got.status, got.h1())
	}
	reference, _ := dbtest.LastFlow(h.t, h.db)
	link := func(kind account.LinkKind, user, connection pg.ID) string {
		secret, _, err := h.accounts.AddLink(ctx, audit.System, kind, user, connection)
		if err != nil {
			h.t.Fatal(err)
		}
		return string(secret)
	}
	key, _, err := h.db.AddAPIKey(ctx, by, db.APIKey{Name: "billing", Scopes: []string{db.ScopeTokens}})
	if err != nil {
		h.t.Fatal(err)
	}
	endpoint, _, err := h.webhooks.Add(ctx, by, "https://hooks.platform.example/", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	_, _, err = h.webhooks.SendTest(ctx, by, endpoint.ID)
	if err != nil {
		h.t.Fatal(err)
	}
	deliveries, err := h.webhooks.Deliveries(ctx, webhooks.Filter{}, "", 1)
	if err != nil || len(deliveries.Rows) != 1 {
		h.t.Fatal(deliveries, err)
	}
	bulk, err := bulk.Add(ctx, h.db, by, bulk.Refresh, bulk.Filter{Connections: &search.Filter{}}, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return strings.NewReplacer(
		"/connections/{id}/disconnect", "/connections/"+disconnected.String()+"/disconnect", "/connections/{id}", "/connections/"+connection.String(), "/admin/merchants/{id}", "/admin/merchants/"+own.merchant.String(),
		"/admin/webhooks/deliveries/{id}", "/admin/webhooks/deliveries/"+deliveries.Rows[0].ID.String(), "/admin/webhooks/{id}", "/admin/webhooks/"+endpoint.ID.String(),
		"/admin/keys/{id}", "/admin/keys/"+key.ID.String(), "/admin/bulk/{id}", "/admin/bulk/"+bulk.String(), "/admin/users/{id}", "/admin/users/"+user(own).String(),
		"{provider}", "caminvoice", "{reference}", reference, "{outcome}", "forged", "{$}", "",
		"/reconnect/{secret}", "/reconnect/"+link(account.LinkReconnect, pg.ID{}, connection), "/password/{secret}", "/password/"+link(account.LinkPassword, user(own), pg.ID{}),
		"/invitations/{secret}", "/invitations/"+link(account.LinkInvitation, user(own), pg.ID{}),
		"/links/{secret}", strings.TrimPrefix(h.newLink(own.merchant, nil).URL, h.url),
	)
}
