package handlers

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// hits follows the callback n times at once, each to its page. when is called as soon as n transactions wait for the account.
func (p *person) hits(callback string, n int, when func()) []answer {
	p.t.Helper()
	var all sync.WaitGroup
	pages := make([]answer, n)
	for i := range pages {
		all.Go(func() {
			if got := p.get(callback); got.location != "" {
				pages[i] = p.get(got.location)
			}
		})
	}
	when()
	dbtest.Wait(p.t, &all, "the requests")
	return pages
}

func TestEveryHitOnACallbackEndsAtTheSamePage(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{CamInvoice: sandbox.CamInvoiceOptions{EchoState: true}}))
	for _, one := range []struct {
		name, provider, account string
		before                  func(*person) // what the merchant has done already
		h1                      string
	}{
		{"a new account connects without a question", "acme", "acme-user-001", func(*person) {}, "Acme is connected"},
		{"so does one of a provider with odd words", "caminvoice", "KHUID00001234", func(*person) {}, caminvoiceConnected},
		{
			"an account that is there already asks everywhere", "acme", "acme-user-001",
			func(p *person) { p.connect("acme", "acme-user-001") }, "This account is already connected",
		},
	} {
		t.Run(one.name, func(t *testing.T) {
			p := s.merchant(one.name[:9])
			one.before(p)
			callback := p.consent(p.leave(one.provider), one.account, "allow")
			release := dbtest.HoldAccount(t, s.db, one.provider, "sandbox", one.account)
			pages := p.hits(callback, 6, func() {
				// The first hit is about to connect, and the pages of the others are about to be drawn.
				dbtest.Eventually(t, "all hits wait", func() bool { return dbtest.HeldTransactions(t, s.db) >= 6 })
				release()
			})
			for _, page := range append(pages, p.get(s.flowPath())) {
				wantH1(t, page, one.h1)
			}
		})
	}
}

// postBack posts a callback's query as a form of another site, which comes without cookies, and follows the redirect as a browser does.
func (p *person) postBack(callback string, change func(url.Values)) answer {
	p.t.Helper()
	u, err := url.Parse(callback)
	if err != nil {
		p.t.Fatal(err)
	}
	form := u.Query()
	change(form)
	stranger := &person{testServer: p.testServer}
	stranger.newBrowser()
	r := request(p.t, http.MethodPost, p.at(u.Path), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", "null")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	got := stranger.do(r)
	if got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, u.Path+"?") {
		return got
	}
	return p.get(got.location)
}

// TestFormPost is OAuth 2.0 Form Post Response Mode: the answer is in the body of a form that the provider's site has posted.
func TestFormPost(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withConnector(newStrict(t).connector(t)))
	for _, one := range []struct {
		name   string
		change func(url.Values)
		status int
		h1     string // of the page that it ends at
	}{
		{"the answer", func(url.Values) {}, http.StatusSeeOther, booksConnected},
		{"with more than was asked for", func(v url.Values) { v.Set("id_token", strings.Repeat("x", 20_000)); v.Set("session_state", "s") }, http.StatusSeeOther, booksConnected},
		{"the merchant declined", func(v url.Values) { v.Del("code"); v.Set("error", "access_denied") }, http.StatusSeeOther, "You said no at Books"},
		{"a forged state", func(v url.Values) { v.Set("state", "forged") }, http.StatusSeeOther, "We cannot tell where this came from"},
		{"no state", func(v url.Values) { v.Del("state") }, http.StatusSeeOther, "We cannot tell where this came from"},
		{"a company beside the code", func(v url.Values) { v.Set("realmId", "9") }, http.StatusSeeOther, booksConnected},
		{"more than an address takes", func(v url.Values) { v.Set("code", strings.Repeat("x", 20_000)) }, http.StatusRequestEntityTooLarge, ""},
	} {
		t.Run(one.name, func(t *testing.T) {
			p := s.merchant("Shop " + one.name)
			left, err := url.Parse(p.post("/connect/books").location)
			if err != nil {
				t.Fatal(err)
			}
			callback := "/connect/books/callback?" + url.Values{"code": {"U1-" + string(pg.NewSecret())}, "state": {left.Query().Get("state")}}.Encode()
			got := p.postBack(callback, one.change)
			if got.status != one.status || strings.Contains(got.location, "?") || strings.Contains(got.location, "U1-") {
				t.Fatalf("%d %q", got.status, got.location)
			}
			if one.h1 != "" {
				wantH1(t, p.get(got.location), one.h1)
			}
		})
	}
	t.Run("a posted answer twice ends at the same page", func(t *testing.T) {
		p := s.merchant("Twice")
		left, _ := url.Parse(p.post("/connect/books").location)
		callback := "/connect/books/callback?" + url.Values{"code": {"U1-" + string(pg.NewSecret())}, "state": {left.Query().Get("state")}}.Encode()
		first, second := p.postBack(callback, func(url.Values) {}), p.postBack(callback, func(url.Values) {})
		if first.location != second.location {
			t.Errorf("%q and %q", first.location, second.location)
		}
	})
	t.Run("a person who was signed out signs in and goes on", func(t *testing.T) {
		p := s.merchant("Signed Out")
		left, _ := url.Parse(p.post("/connect/books").location)
		p.post("/logout")
		callback := "/connect/books/callback?" + url.Values{"code": {"U1-" + string(pg.NewSecret())}, "state": {left.Query().Get("state")}}.Encode()
		got := p.postBack(callback, func(url.Values) {})
		next, err := url.Parse(got.location)
		if err != nil || next.Path != "/login" {
			t.Fatalf("%d %q", got.status, got.location)
		}
		wantH1(t, p.get(p.signIn(next.Query().Get("next"))), booksConnected)
	})
	t.Run("other forms of other sites are refused as ever", func(t *testing.T) {
		p := s.merchant("Foreign")
		for _, path := range []string{"/connect/books", "/logout", "/account", "/flows/K7M2-4QXD/choice", "/login"} {
			r := request(t, http.MethodPost, p.at(path), strings.NewReader("state=x"))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Header.Set("Sec-Fetch-Site", "cross-site")
			if got := p.do(r); got.status != http.StatusForbidden {
				t.Errorf("%s: %d", path, got.status)
			}
		}
	})
	if strings.Contains(s.log.String(), "U1-") {
		t.Error("a code is in the log")
	}
}

func TestAnotherAccountAsksWhich(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("Shop")
	prompt := func(location string) string {
		u, err := url.Parse(location)
		if err != nil {
			t.Fatal(err)
		}
		return u.Query().Get("prompt")
	}
	if first := prompt(p.leave("acme")); strings.Contains(first, "select_account") {
		t.Errorf("the first account: prompt %q", first)
	}
	p.connect("acme", "acme-user-001")
	if another := prompt(p.leave("acme")); !strings.Contains(another, "select_account") {
		t.Errorf("another account: prompt %q", another)
	}
	if same := prompt(p.reconnects(p.connections()[0].ID).location); strings.Contains(same, "select_account") {
		t.Errorf("the same account: prompt %q", same)
	}
}

// TestNobodyIsSentToAnErrorPage: where CamInvoice does not know our callback address, it is for the platform to put right.
func TestNobodyIsSentToAnErrorPage(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, admin := s.merchant("Shop"), s.staff(audit.RoleAdmin)
	p.leave("caminvoice")
	if n := s.sandbox.Calls("caminvoice", "connect"); n != 1 {
		t.Errorf("asked %d times before the first hand-over, want 1", n)
	}
	p.leave("caminvoice")
	if n := s.sandbox.Calls("caminvoice", "connect"); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}

	registrar := s.server.Providers[0].Connector.(connectors.CallbackRegistrar)
	if err := registrar.RegisterCallback(t.Context(), "https://elsewhere.example/callback"); err != nil {
		t.Fatal(err)
	}
	s.server.callbackAccepted.Clear() // another process
	for range 2 {
		got := p.post("/connect/caminvoice")
		page := p.get(got.location)
		wantH1(t, page, "Something is wrong on our side")
		if !page.says("flow.ours.who") || strings.Contains(page.body, "callback-not-registered") {
			t.Error("the merchant does not read that it is for us to put right, or reads why")
		}
	}
	if n := s.events(status.ProviderCallbackRefused); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if !strings.Contains(s.log.String(), "callback address not registered") {
		t.Error("nothing in the log")
	}
	if !admin.get("/admin").says("todo.callback-refused", "Provider", "CamInvoice") {
		t.Error("the overview does not say it")
	}
	if !admin.get("/admin/providers/caminvoice").says("admin_providers.callback-refused", "Provider", "CamInvoice") {
		t.Error("the provider's page does not say it")
	}
	if page := admin.get(s.flowPath()); !strings.Contains(page.body, "callback-not-registered") {
		t.Error("staff are not told why the attempt failed")
	}

	admin.post("/admin/providers/caminvoice", "do", "register")
	p.leave("caminvoice")
	if admin.get("/admin").says("todo.callback-refused", "Provider", "CamInvoice") || s.events(status.ProviderCallbackAccepted) != 1 {
		t.Error("it is not over")
	}

	s.server.callbackAccepted.Clear()
	if err := s.sandbox.SetFault("caminvoice", sandbox.Fault{Kind: sandbox.Error500, Endpoint: "connect"}); err != nil {
		t.Fatal(err)
	}
	p.leave("caminvoice") // the check says nothing about the address: handed over as before
}

// TestStaffAreToldWhy: what a provider did not do has its reason on its page, and nothing that it sent.
func TestStaffAreToldWhy(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	admin := s.staff(audit.RoleAdmin)
	for _, one := range []struct {
		do, endpoint string
		fault        sandbox.Fault
		reason       string
	}{
		{"register", "configure-redirect-url", sandbox.Fault{Kind: sandbox.Error500}, "status (HTTP 500)"},
		{"hook", "configure-webhook", sandbox.Fault{Kind: sandbox.Error500}, "status (HTTP 500)"},
		{"register", "configure-redirect-url", sandbox.Fault{Kind: sandbox.HTML}, "unreadable"},
		{"register", "configure-redirect-url", sandbox.Fault{Kind: sandbox.TooMany}, "asked to wait"},
		{"check", "refresh", sandbox.Fault{Kind: sandbox.Error500}, "status (HTTP 500)"},
	} {
		one.fault.Endpoint = one.endpoint
		if err := s.sandbox.SetFault("caminvoice", one.fault); err != nil {
			t.Fatal(err)
		}
		admin.post("/admin/providers/caminvoice", "do", one.do)
		page := admin.get("/admin/providers/caminvoice")
		if !strings.Contains(page.document().Find("main dl").Text(), one.reason) {
			t.Errorf("%s: %q is not on the page", one.do, one.reason)
		}
		s.sandbox.ClearFaults("caminvoice")
	}
	for _, do := range []string{"register", "check"} {
		admin.post("/admin/providers/caminvoice", "do", do)
	}
	if text := admin.get("/admin/providers/caminvoice").document().Find("main dl").Text(); strings.Contains(text, "HTTP 500") {
		t.Error("it is still on the page when it is done")
	}
}

// TestWrongIssuerBeforeLeaving: discovery that names another issuer is told to staff, and is ours to put right.
func TestWrongIssuerBeforeLeaving(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer":"https://another.example","authorization_endpoint":"https://a.example","token_endpoint":"https://a.example"}`))
	})
	issuer := httptest.NewServer(mux)
	t.Cleanup(issuer.Close)
	entry := `[{"name":"books","title":"Books","issuer":"` + issuer.URL + `","client_id":"i","client_secret_env":"SECRET","environment":"sandbox"}]`
	providers, err := connectors.Load(func(name string) string { return map[string]string{"SECRET": "s3cret-of-books"}[name] }, []byte(entry), connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(t, withConnector(providers[len(providers)-1].Connector))
	p, admin := s.merchant("Shop"), s.staff(audit.RoleAdmin)
	path := p.post("/connect/books").location
	wantH1(t, p.get(path), "Something is wrong on our side")
	if page := admin.get(path); !strings.Contains(page.body, "wrong-issuer (discovery: issuer is not the one that was asked)") {
		t.Error("the attempt does not say why to staff")
	}
	admin.post("/admin/providers/books", "do", "check")
	if page := admin.get("/admin/providers/books"); !strings.Contains(page.body, "wrong-issuer (discovery: issuer is not the one that was asked)") {
		t.Error("nor does the live check")
	}
}

// TestCallbackQueries holds the answers of providers to RFC 3986, where ";" and much else may stand in a query as it is.
func TestCallbackQueries(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withConnector(newStrict(t).connector(t)))
	const ours = "Something is wrong on our side"
	for i, one := range []struct{ name, query, h1 string }{ // CODE and STATE stand for the two
		{"semicolons in the code", "code=CODE;cd;e&state=STATE", booksConnected},
		{"semicolons at the ends of the code", "code=CODE;;&state=STATE", booksConnected},
		{"semicolons in another parameter", "code=CODE&state=STATE&note=a;b;c", booksConnected},
		{"a parameter of semicolons", "code=CODE&;;&state=STATE", booksConnected},
		{"a percent sign that encodes nothing", "code=CODE%zz%&state=STATE", booksConnected},
		{"a percent sign elsewhere", "scope=100%&code=CODE&state=STATE", booksConnected},
		{"empty pairs", "&&code=CODE&=x&&state=STATE&", booksConnected},
		{"no code and no error", "state=STATE", ours},
		{"an empty code", "code=&state=STATE", ours},
		{"semicolons between the parameters", "code=CODE;state=STATE", "We cannot tell where this came from"},
	} {
		t.Run(one.name, func(t *testing.T) {
			p := s.merchant("Shop " + string(rune('A'+i)))
			left, err := url.Parse(p.post("/connect/books").location)
			if err != nil {
				t.Fatal(err)
			}
			query := strings.NewReplacer("CODE", "U1-"+string(pg.NewSecret()), "STATE", left.Query().Get("state")).Replace(one.query)
			path, page := p.comeBack("/connect/books/callback?" + query)
			wantH1(t, page, one.h1)
			if strings.Contains(path, "?") {
				t.Errorf("the query is in the address bar: %s", path)
			}
		})
	}
}

// TestManyTabs begins attempts in many tabs of one browser, and answers the oldest first.
func TestManyTabs(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withConnector(newStrict(t).connector(t)))
	for _, one := range []struct {
		name   string
		before func(*person)
	}{
		{"as ever", func(*person) {}},
		{"with a cookie of another program under the same name", func(p *person) { p.setCookie("browser", "firefox") }},
		{"with an empty cookie", func(p *person) { p.setCookie("browser", "") }},
		{"after another sign-in", func(p *person) { p.post("/logout"); p.signIn("") }},
	} {
		t.Run(one.name, func(t *testing.T) {
			p := s.merchant("Shop " + one.name)
			one.before(p)
			var states []string
			for range 12 {
				left, err := url.Parse(p.post("/connect/books").location)
				if err != nil {
					t.Fatal(err)
				}
				states = append(states, left.Query().Get("state"))
			}
			for i, state := range states {
				_, page := p.comeBack("/connect/books/callback?" + url.Values{"code": {"U" + string(rune('a'+i)) + "-" + string(pg.NewSecret())}, "state": {state}}.Encode())
				wantH1(t, page, booksConnected)
			}
		})
	}
	t.Run("all at once", func(t *testing.T) {
		p := s.merchant("At once")
		var all sync.WaitGroup
		states := make([]string, 4)
		for i := range states {
			all.Go(func() {
				if left, err := url.Parse(p.post("/connect/books").location); err == nil {
					states[i] = left.Query().Get("state")
				}
			})
		}
		dbtest.Wait(t, &all, "the requests")
		for i, state := range states {
			_, page := p.comeBack("/connect/books/callback?" + url.Values{"code": {"V" + string(rune('a'+i)) + "-" + string(pg.NewSecret())}, "state": {state}}.Encode())
			wantH1(t, page, booksConnected)
		}
	})
}
