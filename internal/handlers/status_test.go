package handlers

import (
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

// TestAConnectionSaysTheSameEverywhere: one that was refused in an environment which is no longer its provider's waits for the
// platform on its merchant's page, in the list, in the CSV, in the API and when its token is asked for.
func TestAConnectionSaysTheSameEverywhere(t *testing.T) {
	o := newTestAPI(t)
	admin := o.staff(audit.RoleAdmin)
	g := connectors.Grant{Token: connectors.Token{Access: "access-0", Lifetime: time.Hour}, Account: connectors.Account{ID: "moved", Name: "Moved"}}
	id, err := o.db.AddConnection(t.Context(), o.shop.ID, "acme", "production", g, o.db.Now(), o.source.Info())
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Set(t, o.db, id, dbtest.Refused(o.db.Now()))
	key := o.key(pg.ID{})

	if a := o.ask("GET", "/api/v1/connections/"+id.String(), key, ""); a.body["health"] != "action-needed" || a.body["who_must_act"] != "platform" || a.body["problem"] != "environment" {
		t.Errorf("the API says %s", a.text)
	}
	a := o.ask("GET", "/api/v1/connections/"+id.String()+"/token", key, "")
	if a.is(o, 503, "platform-action-needed"); a.body["problem"] != "environment" || a.body["who_must_act"] != "platform" {
		t.Errorf("the token says %s", a.text)
	}
	for range 2 { // the second soon after the first, which is what a merchant's refusal limits
		if a := o.ask("POST", "/api/v1/connections/"+id.String()+"/refresh", key, ""); a.body["problem"] != "environment" || a.body["who_must_act"] != "platform" {
			t.Errorf("a refresh says %s", a.text)
		}
	}
	admin.wants("/connections/"+id.String(), "This connection belongs to another environment")
	admin.wants("/admin/connections?who=platform&problem=environment", "Moved", "Other environment")
	if page := admin.get("/admin/connections?who=merchant"); strings.Contains(page.body, "Moved") {
		t.Error("the list says that the merchant must act")
	}
	export := admin.get("/admin/connections.csv")
	lines, err := csv.NewReader(strings.NewReader(strings.TrimPrefix(export.body, "\ufeff"))).ReadAll()
	if err != nil || len(lines) != 2 || !strings.Contains(strings.Join(lines[1], ","), ",action-needed,platform,environment,") {
		t.Errorf("the CSV says %q, %v", lines, err)
	}
}
