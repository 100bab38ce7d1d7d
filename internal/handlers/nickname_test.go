package handlers

import (
	"net/http"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

func TestANicknameIsShownWhereverTheAccountIsNamed(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	p.connect("caminvoice", "KHUID00001234")
	c := p.connections()[0]
	path := "/connections/" + c.ID.String()
	support, admin := s.staff(audit.RoleSupport), s.staff(audit.RoleAdmin)
	give := func(by *person, nickname string) {
		t.Helper()
		if got := by.post(path+"/nickname", "nickname", nickname); got.status != http.StatusSeeOther || got.location != path {
			t.Fatalf("%q: %d to %s", nickname, got.status, got.location)
		}
	}
	give(p, "  Riverside\tbranch ")
	for name, page := range map[string]answer{
		"home": p.get("/"), "its page": p.get(path), "before disconnecting": p.get(path + "/disconnect"),
		"staff's page": support.get(path), "found by it": support.get("/admin/connections?q=riverside"), "found by its own name": support.get("/admin/connections?q=KHUID00001234"),
		"events": admin.get("/admin/events?kind=connection.named"), "CSV": support.get("/admin/connections.csv"),
	} {
		if !strings.Contains(page.text("body"), "Riverside branch") { // what was searched for is marked in it
			t.Errorf("%s: %d, without the nickname", name, page.status)
		}
	}
	if got := p.get(path); !strings.Contains(got.h1(), "Riverside branch") || !strings.Contains(got.body, c.Account.Name) {
		t.Errorf("its page is headed %q, or lacks the provider's name for it", got.h1())
	}

	p.connect("caminvoice", "KHUID00001234") // reconnecting writes the words anew
	if got := support.get("/admin/connections?q=riverside"); !strings.Contains(got.body, path) {
		t.Error("not found by its nickname once it was reconnected")
	}

	give(support, "ហាងមាត់ទន្លេ")
	if got := p.get("/"); !strings.Contains(got.body, "ហាងមាត់ទន្លេ") || strings.Contains(got.body, "Riverside branch") {
		t.Error("staff's nickname is not the merchant's")
	}
	give(support, "ហាងមាត់ទន្លេ") // nothing changes
	give(p, " \u200b ")
	if now := p.connections()[0]; now.Nickname != "" {
		t.Errorf("still called %q", now.Nickname)
	}
	if got := support.get("/admin/connections?q=riverside"); strings.Contains(got.body, path) {
		t.Error("found by a nickname of before")
	}
	if n := s.events(status.ConnectionNamed); n != 3 {
		t.Errorf("%d events, not 3", n)
	}
}

func TestANicknameIsRefusedThatIsTooLongOrNotTheirs(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, other := s.merchant("CH168 Shop"), s.merchant("Elsewhere")
	p.connect("caminvoice", "KHUID00001234")
	path := "/connections/" + p.connections()[0].ID.String()
	if got := p.post(path+"/nickname", "nickname", strings.Repeat("ក", text.MaxName+1)); got.status != http.StatusUnprocessableEntity || !got.has("#nickname-error") ||
		got.attribute("input[name=nickname]", "value") == "" {
		t.Errorf("too long: %d", got.status)
	}
	if got := other.post(path+"/nickname", "nickname", "Mine"); got.status != http.StatusNotFound {
		t.Errorf("of another merchant: %d", got.status)
	}
	if p.connections()[0].Nickname != "" {
		t.Error("it was given all the same")
	}
}
