package handlers

import (
	"strings"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"patchbay/internal/audit"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// TestStaffReadOneTimeline: what went well is folded, what failed stands by itself, and everything that was exchanged is within.
func TestStaffReadOneTimeline(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, support := s.merchant("CH168 Shop"), s.staff(audit.RoleSupport)
	p.connect("caminvoice", "KHUID00001234")
	c := p.connections()[0]
	at := s.db.Now().Add(time.Hour)
	add := func(n int, e audit.Event) {
		t.Helper()
		for range n {
			at = at.Add(time.Minute)
			e.At, e.Provider, e.ConnectionID, e.MerchantID = at, c.Provider, c.ID, c.MerchantID
			if err := s.db.Audit.Record(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	fine := audit.Event{Kind: status.RefreshSaved, Outcome: status.OK, Millis: 210, Status: 200, Reference: "aaaa1111"}
	failed := audit.Event{Kind: status.RefreshTemporary, Outcome: status.Temporary, Status: 503, Code: "busy", Millis: 900, Reference: "bbbb2222"}
	failed.Actor.Request = "req-77"
	add(12, fine)
	add(1, failed)
	add(29, fine)
	var page answer
	for range 3 {
		page = support.get("/connections/" + c.ID.String())
	}
	lines := page.document().Find(".timeline > li")
	text := func(i int) string { return strings.Join(strings.Fields(lines.Eq(i).Find(".line").Text()), " ") }
	for i, want := range []string{words("timeline.renewals", "Count", 29), words("event.refresh.trouble", "Provider", "CamInvoice"), words("timeline.renewals", "Count", 12), words("event.connected", "Provider", "CamInvoice")} {
		if !strings.Contains(text(i), want) {
			t.Errorf("line %d reads %q, want %q", i, text(i), want)
		}
	}
	if !lines.Eq(1).Is(".change") || lines.Eq(0).Is(".change") {
		t.Error("a failure does not stand out, or a renewal does")
	}
	within := strings.Join(strings.Fields(lines.Eq(1).Find("details td").Text()), " ")
	for _, want := range []string{"HTTP 503", "busy", "900 ms", "bbbb2222", "req-77"} {
		if !strings.Contains(within, want) {
			t.Errorf("%q has no %s", within, want)
		}
	}
	if n := lines.Eq(0).Find("details:not([open]) tbody tr").Length(); n != 29 {
		t.Errorf("29 renewals unfold to %d", n)
	}
	if n := strings.Count(page.body, "aaaa1111"); n != 2*(12+29) { // in the timeline, and in the report
		t.Errorf("41 renewals stand in %d places, want two of each", n)
	}
	if got := page.text(".looks summary"); !strings.Contains(got, words("timeline.looks", "Count", 3)) {
		t.Errorf("three looks read %q", got)
	}
	all := support.get(page.attribute(".looks a", "href"))
	if n := all.document().Find("tbody tr").Length(); n != 3 {
		t.Errorf("all looks are %d, want 3", n)
	}
	state := page.document().Find("main > section, main > .timeline").First()
	if state.Find(".say").Length() != 1 {
		t.Error("how it is now does not stand above what happened")
	}
	if report := page.text("details:not([open]) > #report"); !strings.Contains(report, "bbbb2222") {
		t.Errorf("the report is not there, or not folded: %q", report)
	}

	add(timelineLength+5, fine)
	page = support.get("/connections/" + c.ID.String())
	older := support.get(page.document().Find("main a").FilterFunction(func(_ int, a *goquery.Selection) bool { return strings.Contains(a.AttrOr("href", ""), "?at=") }).AttrOr("href", ""))
	if n := older.document().Find(".timeline > li").First().Find("tbody tr").Length(); n != 5+29 {
		t.Errorf("the older page begins with %d renewals, want 34", n)
	}
	if mine := p.get("/connections/" + c.ID.String()); mine.has(".timeline details") || strings.Contains(mine.body, "bbbb2222") {
		t.Error("the merchant sees what was exchanged")
	} else if n := mine.document().Find(".timeline > li").Length(); n != 1 || !strings.Contains(mine.text(".timeline > li"), words("timeline.renewals", "Count", timelineLength)) {
		t.Errorf("%d lines of equal refreshes, the first %q", n, mine.text(".timeline > li"))
	}
}
