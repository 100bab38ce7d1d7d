package handlers

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
	"patchbay/views"
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
	if quiet := page.text("section[aria-labelledby=by-provider] > p.quiet"); quiet != words("admin_overview.unset")+" Unwanted, Forgotten" {
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

func TestWhatMerchantsReadOfAnIncident(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	shop, other := s.merchant("Riverside Bakery"), s.merchant("Other Shop")
	shop.connect("caminvoice", "KHUID00001234")
	dbtest.Set(t, s.db, shop.connections()[0].ID, dbtest.Retrying(s.db.Now()))
	connection := "/connections/" + shop.connections()[0].ID.String()
	admin := s.staff(audit.RoleAdmin)
	banner := func(p *person, path string) string {
		t.Helper()
		return p.get(path).text("aside.banner")
	}
	declare := func(do string, fields ...string) answer {
		t.Helper()
		return admin.post("/admin/providers/caminvoice", append([]string{"do", do}, fields...)...)
	}
	if got := declare("message", "message-en", "of nothing"); got.status != http.StatusNotFound {
		t.Errorf("a message without an incident: %d", got.status)
	}
	until := s.db.Now().Add(3 * time.Hour).UTC()
	for _, wrong := range []struct{ what, field, value string }{
		{"a message that is too long", "message-km", strings.Repeat("ក", views.MaxMessage+1)},
		{"a time that has passed", "until", until.AddDate(0, 0, -1).Format(localMinute)},
		{"no time at all", "until", "soon"},
	} {
		page := declare("declare", "reason", "they rang us", wrong.field, wrong.value)
		if page.status != http.StatusUnprocessableEntity || !page.has("#"+wrong.field+"[aria-invalid=true]") || page.attribute("#reason", "value") != "they rang us" {
			t.Errorf("%s: %d", wrong.what, page.status)
		}
	}
	if n := s.events(status.IncidentOpened); n != 0 {
		t.Fatalf("%d incidents were opened by forms that were wrong", n)
	}

	declare("declare", "reason", "they rang us")
	if got := banner(shop, "/"); got != words("layout.incident-merchant", "Provider", "CamInvoice") {
		t.Errorf("without a message: %q", got)
	}
	said := "CamInvoice moves house; invoices go out afterwards."
	if got := declare("message", "message-fr", said, "until", until.Format(localMinute)); got.location != "/admin/providers/caminvoice" {
		t.Fatalf("a message: %d to %q", got.status, got.location)
	}
	for _, path := range []string{"/", connection, "/connect/caminvoice"} {
		if got := banner(shop, path); !strings.Contains(got, "CamInvoice: "+said) || !strings.Contains(got, words("layout.incident-until")) || strings.Contains(got, words("layout.incident-merchant", "Provider", "CamInvoice")) {
			t.Errorf("%s, in English with the only text being French: %q", path, got)
		}
	}
	if got := banner(other, "/"); got != "" {
		t.Errorf("who does not use the provider reads %q", got)
	}
	if page := other.get("/connect/caminvoice"); !page.says("connect.incident", "Provider", "CamInvoice") || !strings.Contains(page.text("aside.banner"), said) {
		t.Error("the page before connecting invites without a word")
	}
	if page := shop.get(connection); !page.says("problem.stopped", "Provider", "CamInvoice") || strings.Contains(page.text("main"), "keep trying") {
		t.Errorf("the connection: %s", page.text("section[aria-labelledby=how]"))
	}
	admin.wants("/admin/providers/caminvoice", "they rang us", said)

	declare("message", "message-fr", said, "message-en", "Back at eight.")
	if got := banner(shop, "/"); got != "CamInvoice: Back at eight." {
		t.Errorf("in the reader's language: %q", got)
	}
	declare("message")
	if got := banner(shop, "/"); got != words("layout.incident-merchant", "Provider", "CamInvoice") {
		t.Errorf("with the message taken back: %q", got)
	}
	if n := s.events(status.IncidentMessage); n != 3 {
		t.Errorf("%d events of messages", n)
	}
	declare("message", "message-en", "Back at eight.")
	declare("end")
	declare("declare", "reason", "once more")
	if got := banner(shop, "/"); strings.Contains(got, "eight") {
		t.Errorf("the next incident has the message of the last: %q", got)
	}
}

// TestFailuresAreSeenAmongThousands: in the chart on a scale of their own, and in words and a table beside it.
func TestFailuresAreSeenAmongThousands(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	admin := s.staff(audit.RoleAdmin)
	hour := s.db.Now().Truncate(time.Hour).Add(-3 * time.Hour)
	for _, sql := range []string{
		`INSERT INTO hourly_refreshes (hour, outcome, calls) VALUES ($1, 'ok', 4988), ($1, 'trouble', 8), ($1, 'refused', 4), ($1 - interval '1 hour', 'ok', 1)`,
		`INSERT INTO hourly_stats (provider, environment, hour, kind, outcome, bucket, calls) VALUES
			('caminvoice', 'sandbox', $1, 'refresh', 'ok', 3, 4988), ('caminvoice', 'sandbox', $1, 'refresh', 'trouble', 3, 12), ('caminvoice', 'sandbox', $1 - interval '10 days', 'refresh', 'refused', 3, 1)`,
	} {
		if _, err := s.db.Pool.Exec(t.Context(), sql, hour); err != nil {
			t.Fatal(err)
		}
	}
	few := words("admin_providers.day-refreshes", "Count", 5000) + " · " + words("admin_providers.day-failed", "Count", 12, "Percent", "0.2")
	one := words("admin_providers.day-refreshes", "Count", 1) + " · " + words("admin_providers.day-failed", "Count", 1, "Percent", "100")
	for _, page := range []struct {
		path, section string
		lines         []string
		marks         int
	}{
		{"/admin", "section[aria-labelledby=chart]", []string{few}, 1},
		{"/admin/providers/caminvoice", "section[aria-labelledby=history]", []string{one, few}, 2},
	} {
		got := admin.get(page.path)
		chart := got.document().Find(page.section)
		if n := chart.Find("svg rect.failed").Length() - chart.Find(".legend rect.failed").Length(); n != page.marks {
			t.Errorf("%s: %d bars of failures, want %d", page.path, n, page.marks)
		}
		var lines []string
		chart.Find("ul.bullets li").Each(func(_ int, li *goquery.Selection) {
			_, figures, _ := strings.Cut(strings.Join(strings.Fields(li.Text()), " "), ": ")
			lines = append(lines, figures)
		})
		if !slices.Equal(lines, page.lines) {
			t.Errorf("%s in words: %q, want %q", page.path, lines, page.lines)
		}
		if table := chart.Find("table").Text(); !strings.Contains(table, "0.2 %") && !strings.Contains(table, "99.7 %") {
			t.Errorf("%s in its table: %s", page.path, table)
		}
	}
	if one != "1 refresh · 1 failed (100 %)" {
		t.Errorf("one of one: %q", one)
	}
}
