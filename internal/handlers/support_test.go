package handlers

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// TestDaysAreTheReaders: what a page calls yesterday is what its list, its export and many refreshes made from it call so, and
// whoever is handed the link sees the same.
func TestDaysAreTheReaders(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	merchant := s.merchant("Riverside Bakery")
	merchant.connect("caminvoice", "KHUID00001234")
	merchant.connect("acme", "acme-user-001")
	zone, err := time.LoadLocation("Asia/Phnom_Penh")
	if err != nil {
		t.Fatal(err)
	}
	now := s.db.Now().In(zone)
	begin := time.Date(now.Year(), now.Month(), now.Day()-2, 0, 30, 0, 0, zone)
	for _, c := range merchant.connections() {
		e := audit.Event{Kind: status.RefreshTemporary, Outcome: status.Temporary, Provider: c.Provider, ConnectionID: c.ID, MerchantID: c.MerchantID, At: begin}
		if c.Provider == "acme" {
			e.At = begin.AddDate(0, 0, 1) // another day there, the same in UTC as most of the first
		}
		if err := s.db.Audit.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	support := s.staff(audit.RoleSupport)
	support.inZone(t, "Asia/Phnom_Penh")
	day := begin.Format(time.DateOnly)
	page := support.wants("/admin/events?kind=refresh&class=trouble&from="+day+"&to="+day,
		`value="`+day+`"`, "Phnom Penh", "Refresh these connections", "/admin/events?class=trouble&amp;from="+now.AddDate(0, 0, -1).Format(time.DateOnly))
	one := func(what, body string) {
		t.Helper()
		if !strings.Contains(body, "CamInvoice") && !strings.Contains(body, "caminvoice") || strings.Contains(body, "acme-user-001") {
			t.Errorf("%s has not the reader's day", what)
		}
	}
	one("the list", page.body[strings.Index(page.body, "<tbody>"):])
	link := page.attribute(`[href^="/admin/events.csv"]`, "href")
	if link == "" {
		t.Fatal("no export")
	}
	elsewhere := s.staff(audit.RoleAdmin) // in UTC
	one("the export, asked for from elsewhere", elsewhere.get(link).body)

	begun := support.submit(page, `[action="/admin/bulk"]`)
	support.wants(begun.location, "1 connection would be refreshed", "00:00:00")

	hour := begin.Truncate(time.Hour).UTC()
	exact := "/admin/events?kind=refresh&from=" + hour.Format(time.RFC3339) + "&to=" + hour.Add(time.Hour).Format(time.RFC3339)
	support.wants(exact, `value="`+day+`T00:00"`, `value="`+day+`T01:00"`)
	if page := support.get("/admin/events?from=" + day + "&zone=Nowhere"); !page.says("admin_events.none") {
		t.Error("a zone that is none shows something")
	}
	support.wants("/admin/connections?since="+day, `value="`+day+`"`, "zone=Asia%2FPhnom_Penh")
}

// inZone gives the person's browser a time zone, as our script does.
func (p *person) inZone(t *testing.T, zone string) {
	t.Helper()
	at, err := url.Parse(p.url)
	if err != nil {
		t.Fatal(err)
	}
	p.client.Jar.SetCookies(at, []*http.Cookie{{Name: "tz", Value: zone, Path: "/"}})
}

// TestSinceWhenAndWhy: a connection's page, the list and the export agree on what is wrong and since when.
func TestSinceWhenAndWhy(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	merchant := s.merchant("Riverside Bakery")
	merchant.connect("caminvoice", "KHUID00001234")
	c := merchant.connections()[0]
	began := s.db.Now().Add(-80 * time.Hour).UTC().Truncate(time.Minute)
	dbtest.Set(t, s.db, c.ID, dbtest.Problem(status.ProblemSealed, began), dbtest.Retrying(began.Add(-4*time.Minute)), dbtest.Lapsing(s.db.Now().Add(24*time.Hour)))
	support := s.staff(audit.RoleSupport)
	page := support.wants("/connections/"+c.ID.String(), words("staff-problem.sealed"), began.Format("2 January 2006, 15:04"), "days ago)")
	if strings.Contains(page.body, began.Add(-4*time.Minute).Format("2 January 2006, 15:04")) {
		t.Error("the page shows two times")
	}
	list := support.wants("/admin/connections", words("problems.sealed"), "Who must act: ")
	if strings.Contains(list.body, "reconnect by") {
		t.Error("asked to come back, although access has ended")
	}
	if export := support.get("/admin/connections.csv"); !strings.Contains(export.body, began.Format(time.RFC3339)) {
		t.Errorf("the export says something else: %s", export.body)
	}
	dbtest.Set(t, s.db, c.ID, dbtest.Refused(began))
	if page := support.wants("/connections/"+c.ID.String(), words("why.action-needed")); strings.Contains(page.body, "kept alive") {
		t.Error("a refresh is announced that nobody will make")
	}
}

// TestAnIncidentSaysWhyAndWhatWaits: on its provider's card, in its list and on many refreshes that wait for it.
func TestAnIncidentSaysWhyAndWhatWaits(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	merchant := s.merchant("Riverside Bakery")
	merchant.connect("caminvoice", "KHUID00001234")
	admin := s.staff(audit.RoleAdmin)
	declared := admin.post("/admin/providers/caminvoice", "do", "declare", "reason", "they rang us")
	page := admin.wants(declared.location, words("admin_providers.declared-by", "Name", "admin@platform.example"), "they rang us", words("layout.incident-declared"))
	said := words("notice.incident-declared")
	if !strings.Contains(page.text("main"), said) || strings.Count(page.text("body"), said) != 1 {
		t.Error("what was done is not said where the reader lands")
	}

	begun := admin.post("/admin/bulk", "provider", "caminvoice")
	admin.post(begun.location, "do", "start")
	if page := admin.wants(begun.location, "1 connection waits until the incident at CamInvoice ends", "/admin/providers/caminvoice"); strings.Contains(page.body, "minute left") {
		t.Error("a bulk that waits says how long it takes")
	}

	admin.post("/admin/providers/caminvoice", "do", "end")
	page = admin.get("/admin/providers/caminvoice")
	table := "section[aria-labelledby=incidents] tbody"
	incidents := page.text(table)
	if !strings.Contains(incidents, "they rang us") || page.document().Find(table+" time").Length() != 2 || !strings.Contains(incidents, "admin@platform.example") {
		t.Errorf("the list of incidents: %s", incidents)
	}
}

// TestAFailureIsNobodysDoing: whoever refreshed has found it, and what was never sent is not called the provider's no.
func TestAFailureIsNobodysDoing(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	merchant := s.merchant("Riverside Bakery")
	merchant.connect("caminvoice", "KHUID00001234")
	c := merchant.connections()[0]
	support := s.staff(audit.RoleSupport)
	u, err := s.accounts.UserByEmail(t.Context(), support.email)
	if err != nil {
		t.Fatal(err)
	}
	for _, note := range []string{"", status.NoteUnsent} {
		if err := s.db.Audit.Record(t.Context(), audit.Event{
			Kind: status.RefreshRejected, Outcome: status.Rejected, Code: "no-refresh-token", Provider: c.Provider, ConnectionID: c.ID, MerchantID: c.MerchantID, Note: note,
			Actor: audit.Actor{Role: audit.RoleSupport, ID: u.ID},
		}); err != nil {
			t.Fatal(err)
		}
	}
	page := support.wants("/connections/"+c.ID.String(), words("connection.found", "Name", "support@platform.example"), words("event.refresh.refused.no-refresh-token"), words("connection.not-sent"))
	if n := strings.Count(page.body, "CamInvoice no longer accepts our access"); n != 1 {
		t.Errorf("the provider is said to have refused %d times, not once", n)
	}

	dbtest.Set(t, s.db, c.ID, dbtest.Retrying(s.db.Now()))
	s.staff(audit.RoleAdmin).post("/admin/providers/caminvoice", "do", "declare", "reason", "so that pages read incidents anew")
	dbtest.Incident(t, s.db, "caminvoice", status.ReasonClientRejected)
	if page := support.wants("/connections/"+c.ID.String(), words("staff-problem.suspected", "Provider", "CamInvoice")); page.says("staff-problem.retrying", "Provider", "CamInvoice") {
		t.Error("a provider that refuses us is said not to answer")
	}
}

// TestAConnectionsReferenceIsOneThatCanBeSpoken has support find what the merchant reads out.
func TestAConnectionsReferenceIsOneThatCanBeSpoken(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	p.connect("caminvoice", "KHUID00001234")
	c := p.connections()[0]
	path, reference := "/connections/"+c.ID.String(), c.Reference()
	support := s.staff(audit.RoleSupport)
	for who, page := range map[string]answer{"the merchant": p.get(path), "support": support.get(path)} {
		if page.attribute(`[data-copy="`+reference+`"]`, "aria-label") == "" {
			t.Errorf("%s cannot copy %s", who, reference)
		}
	}
	if page := p.get(path); strings.Contains(page.text(".reference"), c.ID.String()) {
		t.Error("the merchant is shown the whole id")
	}
	for _, typed := range []string{reference, strings.ToLower(strings.ReplaceAll(reference, "-", "")), strings.NewReplacer("-", " ", "0", "O", "1", "l").Replace(reference)} {
		if page := support.get("/admin/connections?q=" + url.QueryEscape(typed)); !page.has(`a[href="` + path + `"]`) {
			t.Errorf("%q does not find it", typed)
		}
	}
	if got := p.post(path + "/disconnect"); got.status != http.StatusSeeOther {
		t.Fatalf("disconnecting: %d", got.status)
	}
	if got := p.get(path); !strings.Contains(got.text("section[aria-labelledby=receipt]"), reference) {
		t.Error("the receipt lacks it")
	}
}

func TestStaffReadWhatTheMerchantReadsOfAConnection(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, support, boss, other := s.merchant("CH168 Shop"), s.staff(audit.RoleSupport), s.staff(audit.RoleAdmin), s.merchant("Other Shop")
	p.connect("caminvoice", "KHUID00001234")
	path := "/connections/" + p.connections()[0].ID.String()
	p.post(path+"/nickname", "nickname", "Riverside till")
	support.post(path+"/notes", "note", "They rang twice.")
	p.post("/account", "do", "save", "name", "Sok Dara", "locale", "km")
	p.setCookie("lang", "km")
	own := p.get(path)
	for _, reader := range []*person{support, boss} {
		link := reader.get(path).attribute(`main a[href*="?as="]`, "href")
		if link != path+"?as=km" {
			t.Fatalf("the link is %q, and the merchant's people read Khmer", link)
		}
		seen := reader.get(link)
		if seen.status != http.StatusOK || !seen.has("html[lang=en]") || !seen.has("fieldset.seen[lang=km][disabled]") {
			t.Errorf("%d %q: not the merchant's words within one's own", seen.status, seen.h1())
		}
		for _, part := range []string{"h1", ".say", ".timeline", ".actions", ".reference"} {
			if got, want := seen.text("fieldset.seen "+part), own.text("main "+part); got != want || want == "" {
				t.Errorf("%s reads %q, and the merchant reads %q", part, got, want)
			}
		}
		if seen.has(`fieldset.seen a[href*="disconnect"], fieldset.seen a[href="/"]`) || strings.Contains(seen.body, "They rang twice.") {
			t.Error("something can be pressed, or is for staff only")
		}
		if french := reader.get(path + "?as=fr"); !french.has("fieldset.seen[lang=fr]") || french.text("fieldset.seen .say") == own.text("main .say") {
			t.Error("it cannot be read in another language")
		}
		if got := reader.get(path + "?as=xx"); got.location != path {
			t.Errorf("an unknown language: %d to %q", got.status, got.location)
		}
	}
	if got := p.get(path + "?as=fr"); got.has("fieldset.seen") || got.text("main .say") != own.text("main .say") {
		t.Error("the merchant sees another page than its own")
	}
	if got := other.get(path + "?as=km"); got.status != http.StatusNotFound {
		t.Errorf("another merchant: %d", got.status)
	}
	boss.post(path + "/disconnect")
	if seen, want := support.get(path+"?as=km").text("fieldset.seen #receipt"), p.get(path).text("#receipt"); seen != want || want == "" {
		t.Errorf("of the receipt it reads %q, and the merchant %q", seen, want)
	}
}
