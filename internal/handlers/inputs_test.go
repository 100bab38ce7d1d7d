package handlers

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// entryOf returns the connector of an entry.
func entryOf(t *testing.T, entry string) connectors.Connector {
	t.Helper()
	providers, err := connectors.Load(func(name string) string { return map[string]string{"SECRET": "s3cret-of-books"}[name] }, []byte("["+entry+"]"), connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	return providers[len(providers)-1].Connector
}

// TestAProviderThatAsksFirst: the form comes before the browser leaves, an address fills it in and begins nothing, and what was typed is
// taken from the attempt alone.
func TestAProviderThatAsksFirst(t *testing.T) {
	t.Parallel()
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"access_token":"access-of-`+strings.Trim(strings.ReplaceAll(r.URL.Path, "/", "-"), "-")+`","refresh_token":"R","expires_in":3600}`)
	}))
	t.Cleanup(provider.Close)
	s := newTestServer(t, withConnector(entryOf(t, fmt.Sprintf(`{"name":"books","title":"Books","authorize_url":"%[1]s/{shop}/{region}/authorize","token_url":"%[1]s/{shop}/{region}/token",
		"client_id":"c","client_secret_env":"SECRET","environment":"sandbox","account":{"id":"input.shop"},
		"inputs":{"shop":{"title":{"en":"Shop's name","km":"ឈ្មោះហាង"},"suffix":".books.example","example":"ch168"},"region":{"title":"Region","options":{"eu":"v1-eu","us":"v1-us"}}}}`, provider.URL))))
	p := s.merchant("Shop")

	page := p.get("/connect/books?shop=ch168%22%3E&region=us&connection=")
	if v, _ := page.document().Find(`input[name=shop]`).Attr("value"); v != `ch168">` || page.document().Find(`input[name=region][value=us][checked]`).Length() != 1 || !strings.Contains(page.text("main"), ".books.example") {
		t.Errorf("the address does not fill in the form: %q, %s", v, page.text("main"))
	}
	if n := s.events(status.FlowBegun); n != 0 {
		t.Errorf("%d attempts were begun by reading the page", n)
	}
	for _, wrong := range []string{"", "evil.com", "a@evil.com", "a%2eb", "..", "ខ្មែរ"} {
		page := p.post("/connect/books", "shop", wrong, "region", "eu")
		if page.status != http.StatusUnprocessableEntity || page.document().Find(".error").Length() != 1 || !strings.Contains(page.text(".summary"), "Shop's name") {
			t.Errorf("%q: %d %s", wrong, page.status, page.text("main"))
		}
	}
	if page := p.post("/connect/books", "shop", "ch168", "region", "moon"); page.status != http.StatusUnprocessableEntity {
		t.Errorf("an option that there is not: %d", page.status)
	}
	if n := s.events(status.FlowBegun); n != 0 {
		t.Errorf("%d attempts were begun with what is wrong", n)
	}

	left := p.post("/connect/books", "shop", "https://CH168.books.example/admin", "region", "eu")
	if !strings.HasPrefix(left.location, provider.URL+"/ch168/v1-eu/authorize?") {
		t.Fatalf("left for %q", left.location)
	}
	_, page = p.returns(left, "U1", "shop", "ch168.books.example")
	wantH1(t, page, booksConnected)
	all := p.connections()
	if len(all) != 1 || all[0].Account.ID != "ch168" || all[0].Account.Input["shop"] != "ch168" || all[0].Account.Input["region"] != "eu" {
		t.Fatalf("connections: %+v", all)
	}
	if again := p.reconnects(all[0].ID); again.location != "/connect/books?connection="+all[0].ID.String() {
		t.Errorf("reconnecting leads to %q", again.location)
	}
	page = p.get("/connect/books?connection=" + all[0].ID.String())
	if v, _ := page.document().Find(`input[name=shop]`).Attr("value"); v != "ch168" {
		t.Errorf("reconnecting does not fill in what was typed before: %q", v)
	}

	_, page = p.returns(p.post("/connect/books", "shop", "second", "region", "us"), "U1", "shop", "evil.books.example")
	if len(p.connections()) != 1 {
		t.Errorf("a callback for another shop connects: %s", page.text("h1"))
	}
	_, page = p.returns(p.post("/connect/books", "shop", "second", "region", "us"), "U1")
	wantH1(t, page, booksConnected)
}

// TestAKeyThatIsTyped: it is proved before it is saved, handed out with how it is sent, and its refusal is the merchant's.
func TestAKeyThatIsTyped(t *testing.T) {
	t.Parallel()
	var refuse atomic.Bool
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refuse.Load() || !strings.HasSuffix(r.Header.Get("X-Api-Key"), "sok.dk_live-one") {
			w.WriteHeader(http.StatusUnauthorized)
		}
		fmt.Fprint(w, `{}`)
	}))
	t.Cleanup(provider.Close)
	for _, kept := range []string{`,"account":{"id":"input.user"}`, ``} {
		refuse.Store(false)
		s := newTestServer(t, withConnector(entryOf(t, fmt.Sprintf(`{"name":"books","title":"Books","kind":"key","environment":"sandbox","check":{"url":"%s/me"},
			"inputs":{"user":{"title":"User"},"key":{"secret":true,"pattern":"^dk_","title":"Key"}},"send":{"header":"X-Api-Key","value":"{user}.{key}"}%s}`, provider.URL, kept))))
		p := s.merchant("Shop")
		for _, wrong := range []string{"dk_other", "sk_live-one", ""} {
			if page := p.post("/connect/books", "user", "sok", "key", wrong); page.status != http.StatusUnprocessableEntity || wrong != "" && strings.Contains(page.body, wrong) || !strings.Contains(page.body, `value="sok"`) {
				t.Errorf("%q: %d %s", wrong, page.status, page.text("main"))
			}
		}
		left := p.post("/connect/books", "user", "sok", "key", "dk_live-one")
		wantH1(t, p.get(left.location), booksConnected)
		all := p.connections()
		if len(all) != 1 || all[0].Account.ID != "sok" || all[0].Account.Input["user"] != "sok" || len(all[0].Account.Input) != 1 {
			t.Fatalf("connections: %+v", all)
		}
		if page := p.get("/connections/" + all[0].ID.String()); !strings.Contains(page.text("main"), "Last checked") || strings.Contains(page.text("main"), "Last refreshed") {
			t.Errorf("a key is checked and never renewed: %s", page.text("main"))
		}
		o := s.program(pg.ID{})
		var token map[string]any
		code, problem := o.call("GET", "/api/v1/connections/"+all[0].ID.String()+"/token", nil, &token)
		send, _ := token["send"].(map[string]any)
		if code != http.StatusOK || token["access_token"] != "dk_live-one" || token["token_type"] != "key" || token["expires_at"] != nil || send["header"] != "X-Api-Key" || send["value"] != "sok.{key}" {
			t.Errorf("token: %d %s %v", code, problem, token)
		}
		s.noSecrets(map[string]string{"the key": "dk_live-one"})
		refuse.Store(true)
		p.post("/connections/" + all[0].ID.String() + "/refresh")
		if page := p.get("/connections/" + all[0].ID.String()); page.document().Find(".say-action-needed:not([role])").Length() != 1 {
			t.Errorf("a key that is refused: %s", page.text("main"))
		}
		if code, problem := o.call("GET", "/api/v1/connections/"+all[0].ID.String()+"/token", nil, nil); code != http.StatusConflict || !strings.HasSuffix(problem, "action-needed") {
			t.Errorf("the token of a key that is refused: %d %s", code, problem)
		}
	}
}

// TestAKeyThatNothingProves: the page to connect, the connection's page and the API say that it was not checked.
func TestAKeyThatNothingProves(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withConnector(entryOf(t, `{"name":"books","title":"Books","kind":"key","environment":"sandbox",
		"inputs":{"key":{"secret":true,"title":"Key"}},"send":{"header":"X-Api-Key","value":"{key}"}}`)))
	p := s.merchant("Shop")
	if page := p.get("/connect/books"); !page.says("connect.key-unproved", "Provider", "Books") {
		t.Errorf("the page to connect says nothing: %s", page.text("main"))
	}
	p.post("/connect/books", "key", "dk_1")
	all := p.connections()
	if len(all) != 1 {
		t.Fatalf("connections: %+v", all)
	}
	if page := p.get("/connections/" + all[0].ID.String()); !page.says("connection.unchecked", "Provider", "Books") {
		t.Errorf("the connection's page says nothing: %s", page.text("main"))
	}
	var listed struct {
		Providers []struct {
			Name    string
			Checked *bool
		}
	}
	if code, problem := s.program(pg.ID{}).call("GET", "/api/v1/providers", nil, &listed); code != http.StatusOK || len(listed.Providers) != 1 || listed.Providers[0].Checked == nil || *listed.Providers[0].Checked {
		t.Errorf("the API: %d %s %+v", code, problem, listed)
	}
}
