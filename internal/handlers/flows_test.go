package handlers

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
)

// leave presses Connect and returns the provider's address.
func (p *person) leave(provider string) string {
	p.t.Helper()
	got := p.post("/connect/" + provider)
	if got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, p.sandbox.BaseURL()) {
		p.t.Fatalf("connect %s: %d %q %s", provider, got.status, got.location, got.h1())
	}
	return got.location
}

// consent decides at the provider's page and returns the callback, unvisited.
func (p *person) consent(at, account, decision string) string {
	p.t.Helper()
	page := p.get(at)
	for page.status == http.StatusFound || page.status == http.StatusSeeOther { // ELECQ's server mode, discovery
		page = p.get(page.location)
	}
	form := page.document().Find(`form[method="post"]`)
	if form.Length() != 1 {
		p.t.Fatalf("no consent page at %s: %d %s", at, page.status, page.body)
	}
	action, fields := formOf(form)
	fields.Set("account", account)
	fields.Set("decision", decision)
	got := p.postForm(p.sandbox.BaseURL()+action, fields)
	if !strings.HasPrefix(got.location, p.url+"/connect/") {
		p.t.Fatalf("consent went to %d %q: %s", got.status, got.location, got.body)
	}
	return got.location
}

// comeBack follows the callback to its page, whose address has no query.
func (p *person) comeBack(callback string) (path string, page answer) {
	p.t.Helper()
	got := p.get(callback)
	if got.status != http.StatusSeeOther || strings.Contains(got.location, "?") || !strings.HasPrefix(got.location, "/") {
		p.t.Fatalf("callback: %d %q %s", got.status, got.location, got.h1())
	}
	return got.location, p.get(got.location)
}

// connect goes the whole way, choosing what a person would.
func (p *person) connect(provider, account string) (path string, page answer) {
	p.t.Helper()
	path, page = p.comeBack(p.consent(p.leave(provider), account, "allow"))
	if page.has(`[value="connect"]`) {
		if got := p.post(path+"/choice", "choice", "connect"); got.status != http.StatusSeeOther || got.location != path {
			p.t.Fatalf("choice: %d %q", got.status, got.location)
		}
		page = p.get(path)
	}
	return path, page
}

func (p *person) connections() []db.Connection {
	p.t.Helper()
	list, err := p.db.MerchantConnections(context.Background(), p.merchant, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return list
}

const (
	caminvoiceConnected = "CamInvoice is connected"
	isThisYours         = "Is this your business?"
)

func TestEveryProviderConnects(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	path, page := p.comeBack(p.consent(p.leave("caminvoice"), "KHUID00001234", "allow"))
	wantH1(t, page, isThisYours)
	for _, fact := range []string{"CH168 Co., Ltd", "ក្រុមហ៊ុនស៊ីអេច១៦៨", "1234567890"} {
		if !strings.Contains(page.body, fact) {
			t.Errorf("the choice does not show %s", fact)
		}
	}
	if len(p.connections()) != 0 {
		t.Error("saved before the person has chosen")
	}
	p.post(path+"/choice", "choice", "connect")
	wantH1(t, p.get(path), caminvoiceConnected)

	_, page = p.connect("elecq", "100245")
	wantH1(t, page, "ELECQ is connected")
	_, page = p.comeBack(p.consent(p.leave("acme"), "acme-user-001", "allow"))
	wantH1(t, page, "Acme is connected") // state and PKCE prove it: nobody is asked

	got := p.post("/connect/flexiti", "client_id", " flexitidemo ", "client_secret", "77xde15a-9d33-4c15-930a-3se4b3as33e9", "scope", "merchant")
	wantH1(t, p.get(got.location), "Flexiti is connected")
	got = p.post("/connect/bookings", "client_id", "9b1e82a7-0a59-4e7e-add5-b9ffa37aade1", "client_secret", "hT3uVbq0ZsYk1mWc8xRfJ2nLdGpA6eQi5oXyNvKB")
	wantH1(t, p.get(got.location), "Sample Bookings is connected")

	if n := len(p.connections()); n != 5 {
		t.Errorf("%d connections, want 5", n)
	}
	home := p.get("/")
	for _, c := range p.connections() {
		if !strings.Contains(home.body, "/connections/"+c.ID.String()) {
			t.Errorf("the list lacks %s", c.Provider)
		}
		page := p.get("/connections/" + c.ID.String())
		for _, d := range c.Account.Details {
			if d.Value != "" && d.Key != "date_of_incorporation" && !strings.ContainsAny(d.Value, `{["`) && !strings.Contains(page.body, strings.ReplaceAll(d.Value, "+", "&#43;")) && !strings.Contains(page.body, d.Value) {
				t.Errorf("%s's page lacks %s %q", c.Provider, d.Key, d.Value)
			}
		}
	}
}

func TestFiveHitsOnOneCallback(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	for _, provider := range []string{"caminvoice", "acme"} {
		account := map[string]string{"caminvoice": "KHUID00001234", "acme": "acme-user-001"}[provider]
		if err := s.sandbox.SetFault(provider, sandbox.Fault{Kind: sandbox.Slow, Delay: 300 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		callback := p.consent(p.leave(provider), account, "allow")
		before := exchanges(s, provider)
		var all sync.WaitGroup
		got := make([]answer, 5)
		for i := range got {
			all.Go(func() { got[i] = p.get(callback) })
		}
		dbtest.Wait(t, &all, "the requests")
		again := p.get(callback)
		for _, one := range append(got, again) {
			if one.status != http.StatusSeeOther || one.location != got[0].location || !strings.HasPrefix(one.location, "/flows/") {
				t.Errorf("%s: %d %q, want the same page %q for all", provider, one.status, one.location, got[0].location)
			}
		}
		if n := exchanges(s, provider) - before; n != 1 {
			t.Errorf("%s: %d exchanges, want 1", provider, n)
		}
	}
}

func exchanges(s *testServer, provider string) int {
	n := 0
	for _, r := range s.sandbox.Records() {
		if r.Provider == provider && (r.Endpoint == "exchange" || r.Endpoint == "token") {
			n++
		}
	}
	return n
}

func TestCallbacksThatAreTurnedAway(t *testing.T) {
	t.Parallel()
	const (
		forged       = "We cannot tell where this came from"
		otherBrowser = "This was begun in another browser"
		otherUser    = "Somebody else began this"
		otherAddress = "That answer came to the wrong address"
	)
	s := newTestServer(t, withSandbox(sandbox.Options{CamInvoice: sandbox.CamInvoiceOptions{EchoState: true}}))
	p, stranger := s.merchant("CH168 Shop"), s.merchant("Stranger")
	callback := func() *url.URL {
		u, err := url.Parse(p.consent(p.leave("caminvoice"), "KHUID00001234", "allow"))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	with := func(u *url.URL, name, value string) string {
		v := *u
		q := v.Query()
		q.Set(name, value)
		v.RawQuery = q.Encode()
		return v.String()
	}

	u := callback()
	_, page := p.comeBack(with(u, "state", "forged"))
	wantH1(t, page, forged)
	_, page = stranger.comeBack(u.String())
	wantH1(t, page, otherBrowser)
	_, page = p.comeBack(strings.Replace(u.String(), "/connect/caminvoice/", "/connect/acme/", 1))
	wantH1(t, page, otherAddress)

	elsewhere := &person{testServer: s, email: p.email, merchant: p.merchant}
	elsewhere.newBrowser()
	elsewhere.signIn("")
	_, page = elsewhere.comeBack(u.String())
	wantH1(t, page, otherBrowser)

	nobody := &person{testServer: s}
	nobody.newBrowser()
	path, page := nobody.comeBack(u.String())
	wantH1(t, page, otherBrowser)
	if path != "/connect/caminvoice/ended/other-browser" {
		t.Errorf("nobody was sent to %s", path)
	}

	inPlace := &person{testServer: s, client: p.client, email: stranger.email}
	p.post("/logout")
	inPlace.signIn("")
	_, page = inPlace.comeBack(u.String())
	wantH1(t, page, otherUser)
	inPlace.post("/logout")
	p.signIn("")

	if n := exchanges(s, "caminvoice"); n != 0 {
		t.Fatalf("%d exchanges for callbacks that were turned away", n)
	}
	_, page = p.comeBack(u.String()) // none of that has hurt whose it is
	wantH1(t, page, caminvoiceConnected)

	u = callback() // its state came back once: from now on it must
	q := u.Query()
	q.Del("state")
	u.RawQuery = q.Encode()
	_, page = p.comeBack(u.String())
	wantH1(t, page, forged)
	if n := exchanges(s, "caminvoice"); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
	if got := stranger.get(path); got.status != http.StatusOK {
		t.Errorf("the fixed page: %d", got.status)
	}
	for _, missing := range []string{"/connect/nobody/callback", "/connect/flexiti/callback", "/connect/caminvoice/ended/anything"} {
		if got := p.get(missing); got.status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", missing, got.status)
		}
	}
}

func TestPrefetchSpendsNothing(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	callback := p.consent(p.leave("acme"), "acme-user-001", "allow")
	for _, header := range []string{"Sec-Purpose: prefetch", "Sec-Purpose: prefetch;prerender", "Purpose: prefetch", "X-Moz: prefetch"} {
		name, value, _ := strings.Cut(header, ": ")
		r := request(t, http.MethodGet, callback, nil)
		r.Header.Set(name, value)
		if got := p.do(r); got.status != http.StatusNoContent {
			t.Errorf("%s: %d, want 204", header, got.status)
		}
	}
	if got := p.do(request(t, http.MethodHead, callback, nil)); got.status != http.StatusNoContent {
		t.Errorf("HEAD: %d, want 204", got.status)
	}
	if n := exchanges(s, "acme"); n != 0 {
		t.Errorf("%d exchanges", n)
	}
	_, page := p.comeBack(callback)
	wantH1(t, page, "Acme is connected")
}

func TestDenialIsCalm(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	for provider, account := range map[string]string{"caminvoice": "KHUID00001234", "elecq": "100245", "acme": "acme-user-001"} {
		callback := p.consent(p.leave(provider), account, "deny")
		path, page := p.comeBack(callback)
		if !strings.HasPrefix(page.h1(), "You said no at ") || page.status != http.StatusOK {
			t.Errorf("%s: %d %q", provider, page.status, page.h1())
		}
		if again, _ := p.comeBack(callback); again != path {
			t.Errorf("%s: a second hit went to %s, the first to %s", provider, again, path)
		}
	}
	if len(p.connections()) != 0 {
		t.Error("a denial connected something")
	}
}

func TestTwoTabs(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	for provider, account := range map[string]string{"caminvoice": "KHUID00001234", "acme": "acme-user-001"} {
		first, second := p.consent(p.leave(provider), account, "allow"), p.consent(p.leave(provider), account, "allow")
		var all sync.WaitGroup
		for _, callback := range []string{first, second} {
			all.Go(func() {
				got := p.get(callback)
				if got.status != http.StatusSeeOther {
					t.Errorf("%s: %d", provider, got.status)
					return
				}
				if page := p.get(got.location); page.has(`[value="connect"]`) {
					p.post(got.location+"/choice", "choice", "connect")
				}
				page := p.get(got.location)
				if page.has(`[value="connect"]`) { // the other tab was quicker: it is asked again
					p.post(got.location+"/choice", "choice", "connect")
					page = p.get(got.location)
				}
				if !strings.Contains(page.h1(), "is connected") {
					t.Errorf("%s: a tab ended at %q", provider, page.h1())
				}
			})
		}
		dbtest.Wait(t, &all, "the requests")
	}
	if n := len(p.connections()); n != 2 {
		t.Errorf("%d connections, want one for each provider", n)
	}
}

func TestLateAndInterrupted(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), withClock(dbtest.NewClock(time.Now())))
	wait := s.clock.Advance
	p := s.merchant("CH168 Shop")

	callback := p.consent(p.leave("acme"), "acme-user-001", "allow")
	wait(10*time.Minute + time.Second)
	_, page := p.comeBack(callback)
	wantH1(t, page, "That took too long")
	if n := exchanges(s, "acme"); n != 0 {
		t.Errorf("%d exchanges for an attempt that was over", n)
	}

	path, page := p.comeBack(p.consent(p.leave("caminvoice"), "KHUID00001234", "allow"))
	wantH1(t, page, isThisYours)
	wait(30*time.Minute + time.Second)
	wantH1(t, p.get(path), "That took too long")
	p.post(path+"/choice", "choice", "connect")
	wantH1(t, p.get(path), "That took too long")

	callback = p.consent(p.leave("acme"), "acme-user-001", "allow")
	dbtest.InterruptFlows(t, s.db)
	wait(time.Minute + time.Second)
	path, page = p.comeBack(callback)
	wantH1(t, page, "We were interrupted")
	if n := exchanges(s, "acme"); n != 0 {
		t.Errorf("%d exchanges after an interruption", n)
	}
	if len(p.connections()) != 0 {
		t.Error("something was saved")
	}
	if _, sealed := dbtest.Flows(t, s.db); sealed != 0 {
		t.Errorf("%d flows that are over hold something sealed", sealed)
	}
	if support := s.staff(audit.RoleSupport); !strings.Contains(support.get(strings.ToLower(path)).body, "CH168 Shop") {
		t.Error("support cannot look the attempt up by its reference")
	}
}

func TestSignedOutMeanwhile(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	callback := p.consent(p.leave("acme"), "acme-user-001", "allow")
	p.post("/logout")
	got := p.get(callback)
	next, ok := strings.CutPrefix(got.location, "/login?next=")
	if got.status != http.StatusSeeOther || !ok {
		t.Fatalf("%d %q", got.status, got.location)
	}
	if n := exchanges(s, "acme"); n != 0 {
		t.Fatalf("%d exchanges while nobody was signed in", n)
	}
	if again := p.get(callback); again.status != http.StatusSeeOther {
		t.Errorf("a second hit: %d", again.status)
	}
	next, err := url.QueryUnescape(next)
	if err != nil {
		t.Fatal(err)
	}
	if to := p.signIn(next); to != next {
		t.Fatalf("after signing in: %q, want %q", to, next)
	}
	r := request(t, http.MethodGet, s.url+next, nil)
	r.Header.Set("Sec-Purpose", "prefetch")
	p.do(r)
	if n := exchanges(s, "acme"); n != 0 {
		t.Errorf("a prefetch spent the answer")
	}
	wantH1(t, p.get(next), "Acme is connected")
	wantH1(t, p.get(next), "Acme is connected")
	if n := exchanges(s, "acme"); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}

	stranger := s.merchant("Stranger")
	callback = p.consent(p.leave("acme"), "acme-user-002", "allow")
	p.post("/logout")
	p.get(callback)
	other := &person{testServer: s, client: p.client, email: stranger.email}
	other.signIn("")
	if got := other.get(s.flowPath()); got.status != http.StatusNotFound {
		t.Errorf("somebody else's attempt: %d, want 404", got.status)
	}
	if n := exchanges(s, "acme"); n != 1 {
		t.Errorf("somebody else spent the answer")
	}
}

// TestCallbacksLeaveNoAnswerBehind: whatever breaks on our side, the browser is sent away from the provider's answer, and
// no page repeats it.
func TestCallbacksLeaveNoAnswerBehind(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, anonymous := s.merchant("CH168 Shop"), &person{testServer: s}
	anonymous.newBrowser()
	for _, provider := range []string{"nobody-knows", "flexiti"} {
		got := p.get("/connect/" + provider + "/callback?authToken=kept-to-itself")
		if got.location != "/connect/"+provider+"/callback" || strings.Contains(got.body, "kept-to-itself") || p.get(got.location).status != http.StatusNotFound {
			t.Errorf("%s: %d %s, or the answer is on the page", provider, got.status, got.location)
		}
	}
	s.db.Close()
	for name, one := range map[string]*person{"signed in": p, "signed out": anonymous} {
		got := one.get("/connect/caminvoice/callback?authToken=kept-to-itself&state=x")
		if got.status != http.StatusSeeOther || got.location != "/connect/caminvoice/ended/interrupted" {
			t.Errorf("%s, without a database: %d %q %s", name, got.status, got.location, got.h1())
		}
	}
	wantH1(t, anonymous.get("/connect/caminvoice/ended/interrupted"), "We were interrupted")
	if strings.Contains(s.log.String(), "kept-to-itself") {
		t.Error("the answer is in the log")
	}
}

// TestAttemptsToConnectAreLimitedByMerchant has two of a merchant's people begin again and again: another merchant is not kept waiting.
func TestAttemptsToConnectAreLimitedByMerchant(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	one, other := s.merchant("Canal Parking"), s.merchant("Riverside Hotel")
	begun, refused := 0, 0
	for range 100 {
		switch got := one.post("/connect/caminvoice"); {
		case got.status == http.StatusSeeOther:
			begun++
		case got.status == http.StatusTooManyRequests && got.retryAfter != "":
			refused++
		default:
			t.Fatalf("begun %d times, then %d %q", begun, got.status, got.location)
		}
	}
	limit := connectsPerMerchant()
	if flows, _ := dbtest.Flows(t, s.db); begun < limit.Burst || begun > limit.Burst+20 || begun+refused != 100 || flows != begun {
		t.Errorf("%d begun, %d refused, %d flows", begun, refused, flows)
	}
	other.leave("caminvoice")
}
