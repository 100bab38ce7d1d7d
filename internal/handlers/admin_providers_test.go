package handlers

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

func TestProvidersAreATableWithAPageEach(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	s.server.Providers = append([]connectors.Provider{{Name: "unwanted", Title: "Unwanted", Missing: []string{"UNWANTED_API_URL"}}}, s.server.Providers...)
	shop := s.merchant("Riverside Bakery")
	shop.connect("caminvoice", "KHUID00001234")
	refused := s.addUnrenewable(shop.merchant, "elecq", 0)
	dbtest.Set(t, s.db, refused, dbtest.Refused(s.db.Now()))
	admin, support := s.staff(audit.RoleAdmin), s.staff(audit.RoleSupport)
	if got := support.post("/connections/" + shop.connections()[0].ID.String() + "/refresh"); got.status != http.StatusSeeOther {
		t.Fatalf("a refresh: %d", got.status)
	}
	if err := s.server.Refresh.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	dbtest.Incident(t, s.db, "flexiti", status.ReasonTemporary)

	list := admin.get("/admin/providers")
	if rows := list.document().Find("tbody tr"); rows.Length() != len(s.server.Providers) || rows.Last().AttrOr("id", "") != "unwanted" {
		t.Errorf("%d rows, the last %q", rows.Length(), rows.Last().AttrOr("id", ""))
	}
	for _, one := range []struct{ provider, says string }{
		{"caminvoice", words("admin_providers.ready")},
		{"caminvoice", words("todo.callback", "Provider", "CamInvoice")},
		{"elecq", words("healths.action-needed")},
		{"flexiti", words("admin_overview.incident")},
		{"unwanted", words("admin_providers.unset")},
	} {
		row := list.document().Find("#" + one.provider)
		if text := row.Text() + row.Find("td.number:not(:empty)").AttrOr("data-label", ""); !strings.Contains(text, one.says) {
			t.Errorf("the row of %s does not say %q: %s", one.provider, one.says, text)
		}
		if href := row.Find("th a").AttrOr("href", ""); href != "/admin/providers/"+one.provider {
			t.Errorf("%s leads to %q", one.provider, href)
		}
	}
	for provider, answered := range map[string]bool{"caminvoice": true, "elecq": false} {
		if shown := list.document().Find("#"+provider+` td[data-label="`+words("admin_providers.last")+`"] time`).Length() > 0; shown != answered {
			t.Errorf("whether %s has answered well: shown %v", provider, shown)
		}
	}
	for _, provider := range s.server.Providers {
		page := support.get("/admin/providers/" + provider.Name)
		if page.status != http.StatusOK || page.h1() != provider.Title || page.has("main form") {
			t.Errorf("%s for support: %d, %q", provider.Name, page.status, page.h1())
		}
	}
	if page := support.get("/admin/providers/unwanted"); !strings.Contains(page.text("main"), "UNWANTED_API_URL") {
		t.Error("what a provider lacks is not on its page")
	}
	if got := admin.get("/admin/providers/nobody"); got.status != http.StatusNotFound {
		t.Errorf("an unknown provider: %d", got.status)
	}
}

func TestWhatStopsMerchantsIsFirst(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	s.server.Providers = append([]connectors.Provider{
		{Name: "unwanted", Title: "Unwanted", Missing: []string{"UNWANTED_API_URL"}},
		{Name: "forgotten", Title: "Forgotten", Environment: "sandbox", Missing: []string{"FORGOTTEN_API_URL"}},
	}, s.server.Providers...)
	admin, shop := s.staff(audit.RoleAdmin), s.merchant("Riverside Bakery")
	page := admin.get("/admin")
	if page.says("todo.stops") || !page.says("todo.callback", "Provider", "CamInvoice") {
		t.Errorf("before anything is wrong: %s", page.text("#figures > section:first-child"))
	}
	if todo := page.text("section[aria-labelledby=todo]"); strings.Contains(todo, "Unwanted") || strings.Contains(todo, "Forgotten") {
		t.Errorf("a provider that the platform does not want nags: %s", todo)
	}
	if quiet := page.text("section[aria-labelledby=by-provider] > p"); quiet != words("admin_overview.unset")+" Unwanted, Forgotten" {
		t.Errorf("what is not offered: %q", quiet)
	}

	dbtest.Connection(t, s.db, shop.merchant, "forgotten", "F-1", "Bakery")
	dbtest.Set(t, s.db, dbtest.Connection(t, s.db, shop.merchant, "elecq", "100245", "Bakery"), dbtest.Problem(status.ProblemClientRejected, s.db.Now()))
	page = admin.get("/admin")
	var lines []string
	page.document().Find("section[aria-labelledby=todo] li").Each(func(_ int, li *goquery.Selection) {
		lines = append(lines, strings.Join(strings.Fields(li.Text()), " "))
	})
	want := []string{
		words("todo.not-set-up", "Provider", "Forgotten") + " FORGOTTEN_API_URL",
		words("todo.ours", "Provider", "ELECQ", "Count", 1),
		words("todo.callback", "Provider", "CamInvoice"),
	}
	if len(lines) < len(want) || !slices.Equal(lines[:len(want)], want) {
		t.Errorf("the tasks:\n%s", strings.Join(lines, "\n"))
	}
	if titles := page.text("section[aria-labelledby=todo] h3"); titles != words("todo.stops")+words("todo.others") {
		t.Errorf("their headings: %q", titles)
	}
	if quiet := page.text("section[aria-labelledby=by-provider] > p"); strings.Contains(quiet, "Forgotten") {
		t.Error("a provider with connections is called unwanted")
	}
}
