package handlers

import (
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
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
	all.Wait()
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
