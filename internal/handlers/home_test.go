package handlers

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
)

// TestHomeSaysFirstWhatNeedsTheMerchant: the count is in title and heading, and the order is that of urgency.
func TestHomeSaysFirstWhatNeedsTheMerchant(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("Shop")
	fine := dbtest.Connection(t, s.db, p.merchant, "caminvoice", "KHUID00001234", "CH168 Co., Ltd")
	wrong := dbtest.Connection(t, s.db, p.merchant, "flexiti", "mattresshouse:merchant", "")
	needed := dbtest.Connection(t, s.db, p.merchant, "elecq", "100391", "")
	dbtest.Set(t, s.db, wrong, dbtest.Retrying(s.db.Now().Add(-time.Hour)))
	dbtest.Set(t, s.db, needed, dbtest.Refused(s.db.Now()))
	page := p.get("/")
	if title := page.text("title"); !strings.HasPrefix(title, "1 needs you") {
		t.Errorf("the title is %q", title)
	}
	if !strings.Contains(page.h1(), "1 needs you") || page.text("#needed") != "1 needs you" {
		t.Errorf("headings: %q, %q", page.h1(), page.text("#needed"))
	}
	last := -1
	for _, id := range []pg.ID{needed, wrong, fine} {
		at := strings.Index(page.body, `href="/connections/`+id.String()+`"`)
		if at <= last {
			t.Errorf("%s stands at %d, after what is less urgent", id, at)
		}
		last = at
	}
	if page.document().Find(`section[aria-labelledby="needed"] form`).Length() != 1 || !strings.Contains(page.body, "ELECQ account 100391") {
		t.Errorf("what is needed: %s", page.text(`section[aria-labelledby="needed"]`))
	}
}

func TestHomeLeadsBackToAnAttemptThatWaits(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, other := s.merchant("Shop"), s.merchant("Riverside Books")
	path := p.consent(p.leave("caminvoice"), "KHUID00001234", "allow")
	choosing := p.get(path).location
	page := p.get("/")
	link := page.document().Find(`section[aria-labelledby="waiting"] a`)
	if at, _ := link.Attr("href"); at != choosing || !strings.Contains(page.text("main"), "You were about to connect") || !strings.Contains(page.text("main"), "minutes left") {
		t.Errorf("it leads to %q, want %q: %s", at, choosing, page.text("main"))
	}
	if other.get("/").document().Find("#waiting").Length() != 0 {
		t.Error("another merchant reads of it")
	}
	p.post(choosing+"/choice", "choice", "cancel")
	if p.get("/").document().Find("#waiting").Length() != 0 {
		t.Error("it waits after it was answered")
	}
}

func TestProvidersAreSearchedFromEightOn(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	p := s.merchant("Shop")
	if p.get("/").document().Find(`input[name="q"]`).Length() != 0 {
		t.Error("a search among few")
	}
	for i := range 26 {
		about := connectors.About{Category: connectors.Words{"": []string{"Shops", "Payments"}[i%2]}, Description: connectors.Words{"en": fmt.Sprintf("Works with Till %d.", i)}}
		s.server.Providers = append(s.server.Providers, connectors.Provider{Name: fmt.Sprintf("p%d", i), Title: fmt.Sprintf("Provider %d", i), Environment: "production", Connector: described{about: about}})
	}
	all := p.get("/")
	if all.document().Find("#offered ~ h3").Length() < 3 {
		t.Errorf("categories: %s", all.text("main"))
	}
	for query, want := range map[string]int{"Provider 17": 1, "provider 17": 1, "TILL 25": 1, "shops": 13, "provider shops": 13, "caminvoice": 1, "nothing-is-called-so": 0, "<script>": 0} {
		page := p.get("/?q=" + strings.ReplaceAll(query, " ", "+"))
		if n := page.document().Find(".offer").Length(); n != want || page.status != http.StatusOK {
			t.Errorf("%q finds %d, want %d", query, n, want)
		}
	}
}

// described is a provider of which only what is said of it is used.
type described struct {
	connectors.Connector
	about connectors.About
}

func (d described) Info() connectors.Info { return connectors.Info{About: d.about} }

func TestEndedConnectionsAreFoundFromHome(t *testing.T) {
	t.Parallel()
	s := newTestServer(t)
	p, other := s.merchant("Shop"), s.merchant("Riverside Books")
	if p.get("/").document().Find(`a[href="/ended"]`).Length() != 0 {
		t.Error("a link to nothing")
	}
	id := dbtest.Connection(t, s.db, p.merchant, "caminvoice", "KHUID00001234", "CH168 Co., Ltd")
	p.post("/connections/" + id.String() + "/disconnect")
	if p.get("/").document().Find(`a[href="/ended"]`).Length() != 1 {
		t.Error("no link to what has ended")
	}
	if page := p.get("/ended"); page.document().Find(`a[href="/connections/`+id.String()+`"]`).Length() != 1 {
		t.Errorf("the list: %s", page.text("main"))
	}
	if page := other.get("/ended"); strings.Contains(page.body, id.String()) {
		t.Error("another merchant reads it")
	}
}

// TestASessionThatEndsInAForm: it is said, nothing is done, and the way back leads to the form with what is not secret.
func TestASessionThatEndsInAForm(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("Shop")
	id := dbtest.Connection(t, s.db, p.merchant, "caminvoice", "KHUID00001234", "CH168 Co., Ltd").String()
	for path, want := range map[string]string{
		"/connect/flexiti":                      "/connect/flexiti?client_id=flexitidemo",
		"/connections/" + id + "/disconnect":    "/connections/" + id,
		"/connections/" + id + "/refresh":       "/connections/" + id,
		"/flows/K7M2-4QXD/choice":               "/flows/K7M2-4QXD",
		"/account":                              "/account",
		"/admin/users":                          "/admin/users",
		"/admin/keys/" + id + "/revoke":         "/admin/keys",
		"/admin/webhooks/deliveries/" + id:      "/admin/webhooks",
		"/admin/bulk/" + id:                     "/admin/bulk/" + id,
		"/connections/" + id + "/reconnect?x=1": "/connections/" + id,
	} {
		p.newBrowser()
		left := p.post(path, "client_id", "flexitidemo", "client_secret", "secret-of-a-shop")
		if left.location != "/login?next="+url.QueryEscape(want) {
			t.Errorf("%s leads to %q, want back to %q", path, left.location, want)
		}
		if page := p.get(left.location); !page.says("notice.form-not-sent") || strings.Contains(page.body+left.location, "secret-of-a-shop") {
			t.Errorf("%s: it is not said, or holds the secret: %s", path, page.text("main"))
		}
	}
	if len(p.connections()) != 1 {
		t.Error("something was done")
	}
}
