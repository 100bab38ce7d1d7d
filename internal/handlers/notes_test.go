package handlers

import (
	"net/http"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"patchbay/internal/audit"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
	"patchbay/views"
)

func TestStaffNoteWhatColleaguesShouldKnow(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	p.connect("caminvoice", "KHUID00001234")
	path := "/connections/" + p.connections()[0].ID.String()
	support, admin := s.staff(audit.RoleSupport), s.staff(audit.RoleAdmin)
	add := func(who *person, text string) answer {
		t.Helper()
		return who.submit(who.get(path), `textarea[name="note"]`, "note", text)
	}
	first, second := "They call on Monday.\nAsk for <b>Dara</b> \u202e0123", "Keys were renewed by phone."
	for _, one := range []struct {
		who  *person
		text string
	}{{support, first}, {admin, second}} {
		if got := add(one.who, one.text); got.location != path+"#notes" {
			t.Fatalf("a note is answered %d %s", got.status, got.location)
		}
	}
	page := support.get(path)
	notes := page.document().Find(".notes ol > li")
	if notes.Length() != 2 || !strings.Contains(notes.Eq(0).Text(), second) || notes.Eq(0).Find("time").Length() != 1 {
		t.Errorf("%d notes, the newest %q", notes.Length(), notes.Eq(0).Text())
	}
	if got := notes.Eq(1).Find(".note bdi").Text(); got != "They call on Monday.\nAsk for <b>Dara</b> 0123" {
		t.Errorf("a note reads %q", got)
	}
	for name, want := range map[string]struct {
		note string
		code string
	}{
		"nothing":               {"", "missing"},
		"only what nobody sees": {" \u200b\n", "missing"},
		"one letter too many":   {strings.Repeat("ស", views.MaxNote) + "x", "too-long"},
	} {
		got := support.post(path+"/notes", "note", want.note)
		if got.status != http.StatusUnprocessableEntity || !got.has(`details[open] textarea[aria-invalid]`) || !got.says("error."+want.code, "Field", words("field.note")) {
			t.Errorf("%s: %d", name, got.status)
		}
		if want.code == "too-long" && got.text("textarea") != want.note {
			t.Error("what was typed is lost")
		}
	}
	if got := p.get(path); got.has(".notes") || got.says("event.noted") || strings.Contains(got.body, "Monday") {
		t.Error("the merchant sees a note")
	}
	if got := p.post(path+"/notes", "note", "mine"); got.status != http.StatusNotFound {
		t.Errorf("the merchant's note: %d", got.status)
	}
	buttons := func(who *person) *goquery.Selection {
		return who.get(path).document().Find(`.notes button[name="delete"]`)
	}
	if mine, all := buttons(support), buttons(admin); mine.Length() != 1 || all.Length() != 2 {
		t.Errorf("support may delete %d, an admin %d", mine.Length(), all.Length())
	}
	ofAdmin := buttons(admin).First().AttrOr("value", "")
	if got := support.post(path+"/notes", "delete", ofAdmin); got.status != http.StatusNotFound {
		t.Errorf("support deletes an admin's note: %d", got.status)
	}
	add(support, strings.Repeat("ស", views.MaxNote)) // as long as may be
	for _, who := range []*person{support, admin} {
		if got := who.submit(who.get(path), `.notes li:first-child button[name="delete"]`); got.location != path+"#notes" {
			t.Errorf("deleting is answered %d %s", got.status, got.location)
		}
	}
	if n := support.get(path).document().Find(".notes ol > li").Length(); n != 1 {
		t.Errorf("%d notes are left, want 1", n)
	}
	if added, gone := s.events(status.ConnectionNoted), s.events(status.ConnectionNoteDeleted); added != 3 || gone != 2 {
		t.Errorf("events: %d of notes, %d of deleted ones", added, gone)
	}
	if got := support.get("/admin/events?kind=connection.noted"); strings.Contains(got.text("tbody"), "Monday") || !got.says("event.noted") {
		t.Error("an event has the text, or is not there")
	}
}
