package handlers

import (
	"strings"
	"testing"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// TestTwoTabsOfOneLink begins twice in one browser. Whichever tab ends well, the link has done its task, and the other tab leads there.
func TestTwoTabsOfOneLink(t *testing.T) {
	t.Parallel()
	accounts := map[string][2]string{"caminvoice": {"KHUID00001234", "KHUID00005678"}, "acme": {"acme-user-001", "acme-user-002"}} // without state, and with
	for provider, account := range accounts {
		for _, one := range []struct {
			what   string
			first  bool // the tab that was opened first ends well, and the other follows
			then   int  // the account in the tab that follows
			answer string
			made   int
		}{
			{"the first tab, then the second with the same account", true, 0, "allow", 1},
			{"the second tab, then the first with the same account", false, 0, "allow", 1},
			{"the first tab, then the second with another account", true, 1, "allow", 1},
			{"the second tab, then the first with another account", false, 1, "allow", 1},
			{"the first tab, then no in the second", true, 0, "deny", 1},
			{"the second tab, then no in the first", false, 0, "deny", 1},
		} {
			t.Run(provider+": "+one.what, func(t *testing.T) {
				t.Parallel()
				s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
				program, p := s.program(pg.ID{}), s.visitor("")
				made, path := program.link(object{"provider": provider})
				tabs := []string{p.begin(path).location, p.begin(path).location}
				if !one.first {
					tabs[0], tabs[1] = tabs[1], tabs[0]
				}
				flow, _ := p.comeBack(p.consent(tabs[0], account[0], "allow"))
				p.post(flow+"/choice", "choice", "connect")
				l := program.state(made.ID)
				if l.State != db.LinkConnected || l.Connection == "" || "/flows/"+l.Reference != flow {
					t.Fatalf("after the first end: %+v", l)
				}
				other, page := p.comeBack(p.consent(tabs[1], account[one.then], one.answer))
				if page.has(`[value="connect"]`) {
					page = p.get(p.post(other+"/choice", "choice", "connect").location)
				}
				if one.then == 1 && page.location != flow {
					t.Errorf("the other tab leads to %d %q %s", page.status, page.location, page.h1())
				}
				if got := program.state(made.ID); got.State != db.LinkConnected || got.Connection != l.Connection {
					t.Errorf("after the second end: %+v", got)
				}
				if n := s.events(status.ConnectionConnected); n != one.made {
					t.Errorf("%d accounts were connected", n)
				}
				if got := p.get(path); !strings.HasPrefix(got.location, "/flows/") {
					t.Errorf("the link leads to %d %q", got.status, got.location)
				}
			})
		}
	}
}

// TestTwoTabsOfALinkThatIsConfirmed: the code that came back is good, whatever was begun in another tab.
func TestTwoTabsOfALinkThatIsConfirmed(t *testing.T) {
	t.Parallel()
	for _, then := range []string{"", "deny"} {
		s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
		program, p := s.program(pg.ID{}), s.visitor("")
		made, path := program.link(object{"confirm": true, "provider": "acme"})
		first, second := p.begin(path).location, p.begin(path).location
		flow, _ := p.comeBack(p.consent(first, "acme-user-001", "allow"))
		p.post(flow+"/choice", "choice", "connect")
		code := wayBack(t, p.get(flow)).Get("patchbay_code")
		if then != "" {
			p.comeBack(p.consent(second, "acme-user-001", then))
		}
		if l := program.state(made.ID); l.State != db.LinkConfirming {
			t.Errorf("%q: %s", then, l.State)
		}
		if status, problem := program.call("POST", "/api/v1/connect-links/"+made.ID.String()+"/confirm", object{"code": code}, nil); status != 200 {
			t.Errorf("%q: confirming answers %d %s", then, status, problem)
		}
		if l := program.state(made.ID); l.State != db.LinkConnected || l.Connection == "" {
			t.Errorf("%q: %+v", then, l)
		}
	}
}
