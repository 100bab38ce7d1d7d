package handlers

import (
	"net/http"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
)

// addUnrenewable adds a connection whose grant holds an access token and nothing to renew it with.
func (s *testServer) addUnrenewable(merchant pg.ID, provider string, lifetime time.Duration) pg.ID {
	s.t.Helper()
	g := connectors.Grant{
		Token:   connectors.Token{Access: "access-0", Type: "bearer", Lifetime: lifetime},
		Account: connectors.Account{ID: "KHUID00001234", Name: "CH168 Co., Ltd"},
	}
	id, err := s.db.AddConnection(s.t.Context(), merchant, provider, "sandbox", g, s.db.Now(), connectors.Info{KeepAlive: 24 * time.Hour})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

func TestPagesDoNotSayThatWhatNothingRenewsRenewsByItself(t *testing.T) {
	t.Parallel()
	for name, lifetime := range map[string]time.Duration{"no end": 0, "a day": 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := newTestServer(t)
			shop := s.merchant("Riverside Bakery")
			id := s.addUnrenewable(shop.merchant, "caminvoice", lifetime)
			until := words("connection.until")
			if lifetime == 0 {
				until = words("connection.until-ended", "Provider", "CamInvoice")
			}
			support := s.staff(audit.RoleSupport)
			for _, page := range []answer{
				shop.wants("/connections/"+id.String(), until), support.wants("/connections/"+id.String(), until, words("why.unrenewable")),
				shop.get(shop.post("/connections/" + id.String() + "/refresh").location), support.get(support.post("/connections/" + id.String() + "/refresh").location),
			} {
				if page.status != http.StatusOK || page.says("connection.renews-always") || page.says("outcome.ok") || !page.says("health.fine") {
					t.Errorf("%d: %s", page.status, page.text("main"))
				}
			}
			if page := shop.get(shop.post("/connections/" + id.String() + "/refresh").location); !page.says("outcome.unrenewable", "Provider", "CamInvoice") {
				t.Errorf("refresh now: %s", page.text("main"))
			}
			if page := shop.get("/"); page.says("connections.reconnect-by") != (lifetime > 0) {
				t.Errorf("the merchant's list: %s", page.text("main"))
			}
			if page := support.get("/admin/connections"); page.says("admin_connections.until") != (lifetime > 0) {
				t.Errorf("the staff's list: %s", page.text("main"))
			}
		})
	}
}

func TestTheConnectedPageSaysUntilWhen(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	shop := s.merchant("Riverside Bakery")
	path, page := shop.connect("caminvoice", "KHUID00001234")
	if !page.says("flow.next-renews") {
		t.Errorf("renewable: %s", page.text("main"))
	}
	id := shop.connections()[0].ID
	dbtest.Set(t, s.db, id, dbtest.Unrenewable())
	if page := shop.wants(path, words("flow.next-until-ended", "Provider", "CamInvoice")); page.says("flow.next-renews") {
		t.Errorf("without an end: %s", page.text("main"))
	}
	dbtest.Set(t, s.db, id, dbtest.Lapsing(s.db.Now().Add(time.Hour)))
	if page := shop.wants(path, words("flow.next-until")); page.says("flow.next-renews") {
		t.Errorf("for an hour: %s", page.text("main"))
	}
}

func TestProgramsReadThatNothingRenewsAToken(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	for _, c := range []struct {
		name     string
		merchant db.Merchant
		lifetime time.Duration
	}{{"no end", o.shop, 0}, {"a day", o.other, 24 * time.Hour}} {
		id := o.addUnrenewable(c.merchant.ID, "acme", c.lifetime)
		key := o.key(c.merchant.ID)
		token := o.ask("GET", "/api/v1/connections/"+id.String()+"/token", key, "")
		token.is(o, http.StatusOK, "")
		if (token.body["expires_at"] == nil) != (c.lifetime == 0) || token.body["access_token"] != "access-0" {
			t.Errorf("%s: %s", c.name, token.text)
		}
		for _, method := range []string{"GET", "POST"} {
			path := "/api/v1/connections/" + id.String()
			if method == "POST" {
				path += "/refresh"
			}
			got := o.ask(method, path, key, "")
			got.is(o, http.StatusOK, "")
			if got.body["renewable"] != false || got.body["next_refresh_at"] != nil || got.body["health"] != "fine" ||
				(got.body["reconnect_by"] == nil) != (c.lifetime == 0) || (got.body["access_expires_at"] == nil) != (c.lifetime == 0) {
				t.Errorf("%s: %s %s", c.name, method, got.text)
			}
		}
	}
}
