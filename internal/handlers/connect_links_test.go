package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/PuerkitoBio/goquery"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

const platform = "https://platform.example/settings"

// leadsBack allows the platform's addresses for the way back.
func leadsBack() serverOption {
	return withOptions(func(o *Options, _ *jobs.Options) {
		prefix, err := ParseReturnPrefix(platform)
		if err != nil {
			panic(err)
		}
		o.ReturnURLs = append(o.ReturnURLs, prefix)
	})
}

func prefix(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := ParseReturnPrefix(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// program is one of the platform's programs, with a key for links.
type program struct {
	*testServer
	key pg.Secret
}

func (s *testServer) program(merchant pg.ID) program {
	s.t.Helper()
	_, key, err := s.db.AddAPIKey(context.Background(), audit.System, db.APIKey{Name: "platform", MerchantID: merchant, Scopes: db.Scopes()})
	if err != nil {
		s.t.Fatal(err)
	}
	return program{s, key}
}

// call asks the API and reads its answer into out, unless that is nil. It returns the status and, of a problem, its type.
func (p program) call(method, path string, body, out any) (code int, problem string) {
	p.t.Helper()
	var sent io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			p.t.Fatal(err)
		}
		sent = bytes.NewReader(b)
	}
	r := request(p.t, method, p.url+path, sent)
	r.Header.Set("Authorization", "Bearer "+string(p.key))
	got, err := client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer got.Body.Close()
	b, err := io.ReadAll(got.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if got.StatusCode >= 400 {
		var said apiProblem
		if err := json.Unmarshal(b, &said); err != nil {
			p.t.Fatalf("%s %s: %d %s", method, path, got.StatusCode, b)
		}
		return got.StatusCode, said.Type
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			p.t.Fatalf("%s %s: %s: %v", method, path, b, err)
		}
	}
	return got.StatusCode, ""
}

type object map[string]any

// link makes a connect link; more is added to a body that is enough.
func (p program) link(more object) (apiLink, string) {
	p.t.Helper()
	body := object{
		"merchant": object{"external_id": "shop-17", "name": "CH168 Shop"}, "user": object{"external_id": "u-42", "name": "Sok Dara"},
		"provider": "caminvoice", "return_url": platform + "/connections?tab=1",
	}
	for name, value := range more {
		body[name] = value
		if value == nil {
			delete(body, name)
		}
	}
	var made apiLink
	if code, problem := p.call("POST", "/api/v1/connect-links", body, &made); code != http.StatusCreated {
		p.t.Fatalf("making a link: %d %s", code, problem)
	}
	return made, strings.TrimPrefix(made.URL, p.url)
}

func (p program) state(id pg.ID) apiLink {
	p.t.Helper()
	var l apiLink
	if code, problem := p.call("GET", "/api/v1/connect-links/"+id.String(), nil, &l); code != http.StatusOK {
		p.t.Fatalf("reading a link: %d %s", code, problem)
	}
	return l
}

// newLink makes a link for a merchant that has no external id, beneath the API.
func (s *testServer) newLink(merchant pg.ID, change func(*db.ConnectLink)) apiLink {
	s.t.Helper()
	l := db.ConnectLink{Merchant: db.Merchant{ID: merchant}, Provider: "caminvoice"}
	if change != nil {
		change(&l)
	}
	l, secret, err := s.db.AddConnectLink(context.Background(), audit.System, l, time.Hour)
	if err != nil {
		s.t.Fatal(err)
	}
	return apiLink{ID: l.ID, URL: s.url + "/links/" + string(secret)}
}

// linkBrowser is a browser that has begun with a link of a merchant.
func (s *testServer) linkBrowser(merchant pg.ID) *person {
	s.t.Helper()
	p := s.visitor("")
	if got := p.post(strings.TrimPrefix(s.newLink(merchant, nil).URL, s.url)); got.status != http.StatusSeeOther {
		s.t.Fatalf("begin with a link: %d %s", got.status, got.h1())
	}
	return p
}

// begin opens a link, presses its button and returns where the browser is sent.
func (p *person) begin(path string, values ...string) answer {
	p.t.Helper()
	page := p.get(path)
	if page.status != http.StatusOK || !page.has(`form[method="post"]`) {
		p.t.Fatalf("%s: %d %s", path, page.status, page.h1())
	}
	return p.post(path, values...)
}

// wayBack returns the values that a page's button takes back to the platform.
func wayBack(t *testing.T, page answer) url.Values {
	t.Helper()
	var found string
	page.document().Find("main a").Each(func(_ int, a *goquery.Selection) {
		if href, _ := a.Attr("href"); strings.HasPrefix(href, platform) {
			found = href
		}
	})
	u, err := url.Parse(found)
	if err != nil || found == "" {
		t.Fatalf("no way back on %q", page.h1())
	}
	return u.Query()
}

func TestAMerchantConnectsByALinkAndComesBack(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	program, p := s.program(pg.ID{}), s.visitor("")
	made, path := program.link(nil)
	if made.ExpiresAt.Sub(made.CreatedAt) != 30*time.Minute || made.State != db.LinkOpen {
		t.Errorf("made: %+v", made)
	}
	for range 3 { // looking spends nothing, in whichever browser
		scanner := s.visitor("")
		page := scanner.get(path)
		wantH1(t, page, "Connect CamInvoice")
		for _, says := range []string{"CH168 Shop", "Sok Dara", "platform.example"} {
			if !strings.Contains(page.body, says) {
				t.Errorf("the page does not say %s", says)
			}
		}
		head := scanner.do(request(t, http.MethodHead, s.url+path, nil))
		prefetch := request(t, http.MethodGet, s.url+path, nil)
		prefetch.Header.Set("Sec-Purpose", "prefetch;prerender")
		if head.status != http.StatusOK || scanner.do(prefetch).status >= 500 || wayBack(t, page).Get("patchbay_state") != "open" {
			t.Error("HEAD or a prefetch fails")
		}
	}
	if l := program.state(made.ID); l.State != db.LinkOpen || l.BegunAt != nil {
		t.Errorf("looked at: %+v", l)
	}
	left := p.begin(path)
	if l := program.state(made.ID); l.State != db.LinkBegun || l.Reference == "" {
		t.Errorf("begun: %+v", l)
	}
	flow, page := p.comeBack(p.consent(left.location, "KHUID00001234", "allow"))
	wantH1(t, page, isThisYours)
	if got := p.get(path); got.location != flow {
		t.Errorf("while there is a choice the link leads to %d %q", got.status, got.location)
	}
	p.post(flow+"/choice", "choice", "connect")
	page = p.get(flow)
	wantH1(t, page, caminvoiceConnected)
	l := program.state(made.ID)
	back := wayBack(t, page)
	if back.Get("patchbay_state") != "connected" || back.Get("patchbay_connection") != l.Connection || back.Get("patchbay_link") != made.ID.String() || back.Get("tab") != "1" || back.Has("patchbay_code") {
		t.Errorf("the way back has %v", back)
	}
	if l.State != db.LinkConnected || l.Connection == "" || l.Merchant.ExternalID != "shop-17" || l.Provider != "caminvoice" {
		t.Errorf("connected: %+v", l)
	}
	for _, href := range []string{`main a[href="/"]`, `main a[href^="/connections"]`, `a[href="/account"]`} {
		if page.has(href) {
			t.Errorf("the page has %s", href)
		}
	}
	// Once it is done the link leads to how it ended, and begins nothing.
	for _, got := range []answer{p.get(path), p.post(path), p.post("/links/" + made.ID.String())} {
		if got.location != flow {
			t.Errorf("afterwards the link leads to %d %q", got.status, got.location)
		}
	}
	staff := s.staff(audit.RoleSupport)
	timeline := staff.get("/connections/" + l.Connection)
	if !strings.Contains(timeline.body, "Sok Dara, u-42") {
		t.Error("the timeline does not say who acted")
	}
	if page := staff.get("/admin/merchants/" + l.Merchant.ID.String()); !strings.Contains(page.body, "Sok Dara") || !strings.Contains(page.body, "shop-17") {
		t.Error("the merchant's page does not list the link")
	}
	for kind, want := range map[status.Kind]int{status.LinkMade: 1, status.LinkBegun: 1, status.LinkOtherBrowser: 0, status.ConnectionConnected: 1} {
		if got := s.events(kind); got != want {
			t.Errorf("%d events %s, want %d", got, kind, want)
		}
	}
	s.noSecrets(map[string]string{"link's secret": strings.TrimPrefix(path, "/links/")})
}

func TestALinkIsOneBrowsers(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	program := s.program(pg.ID{})
	made, path := program.link(nil)
	p, stranger := s.visitor(""), s.visitor("")
	left := p.begin(path)
	for _, got := range []answer{stranger.get(path), stranger.post(path)} {
		if got.status != http.StatusGone || got.h1() != "This link has been used" {
			t.Errorf("a second browser gets %d %s", got.status, got.h1())
		}
		if back := wayBack(t, got); back.Has("patchbay_connection") || back.Has("patchbay_code") {
			t.Errorf("a second browser is told %v", back)
		}
		if strings.Contains(got.body, "CH168") || strings.Contains(got.body, "Sok Dara") {
			t.Error("a second browser learns for whom the link is")
		}
	}
	if s.events(status.LinkOtherBrowser) != 1 {
		t.Error("no event tells of the second browser")
	}
	if got := stranger.get("/links/" + made.ID.String()); got.status != http.StatusNotFound {
		t.Errorf("the link's id leads a stranger to %d", got.status)
	}
	// The stranger takes over the callback, its page, and its choice.
	callback := p.consent(left.location, "KHUID00001234", "allow")
	if got := stranger.get(callback); !strings.HasPrefix(got.location, "/connect/caminvoice/ended/") {
		t.Errorf("the callback in a second browser leads to %q", got.location)
	}
	signedIn := s.merchant("Another Shop")
	if got := signedIn.get(callback); !strings.HasPrefix(got.location, "/flows/") || signedIn.get(got.location).h1() == isThisYours {
		t.Errorf("the callback of a signed-in stranger leads to %q", got.location)
	}
	flow, _ := p.comeBack(callback)
	for _, other := range []*person{stranger, signedIn} {
		if got := other.get(flow); got.status == http.StatusOK {
			t.Errorf("a stranger sees %s", got.h1())
		}
		if got := other.post(flow+"/choice", "choice", "connect"); strings.HasPrefix(got.location, "/flows") {
			t.Errorf("a stranger's choice: %d %q", got.status, got.location)
		}
	}
	if l := program.state(made.ID); l.State != db.LinkBegun {
		t.Errorf("the strangers brought it to %s", l.State)
	}
	p.post(flow+"/choice", "choice", "connect")
	if l := program.state(made.ID); l.State != db.LinkConnected {
		t.Errorf("the own browser brought it to %s", l.State)
	}
}

func TestOfTwentyBrowsersOneHasTheLink(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	_, path := s.program(pg.ID{}).link(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int]int{}
	for range 20 {
		wg.Go(func() {
			jar, _ := cookiejar.New(nil)
			client := &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
			answer, err := client.Post(s.url+path, "application/x-www-form-urlencoded", nil)
			if err != nil {
				t.Error(err)
				return
			}
			answer.Body.Close()
			mu.Lock()
			defer mu.Unlock()
			got[answer.StatusCode]++
		})
	}
	dbtest.Wait(t, &wg, "the requests")
	if got[http.StatusSeeOther] != 1 || got[http.StatusGone] != 19 {
		t.Errorf("the answers were %v", got)
	}
}

// TestALinkThatIsOverLeadsBack goes by every way in which a link leads nowhere.
func TestALinkThatIsOverLeadsBack(t *testing.T) {
	t.Parallel()
	clock := dbtest.NewClock(time.Now().UTC())
	s := newTestServer(t, withClock(clock), leadsBack())
	program, p := s.program(pg.ID{}), s.visitor("")

	made, path := program.link(object{"expires_in": 60})
	clock.Advance(61 * time.Second)
	for _, got := range []answer{p.get(path), p.post(path)} {
		if got.status != http.StatusGone || got.h1() != "This link has expired" || wayBack(t, got).Get("patchbay_state") != "expired" {
			t.Errorf("expired: %d %s", got.status, got.h1())
		}
	}
	if l := program.state(made.ID); l.State != db.LinkExpired || l.BegunAt != nil {
		t.Errorf("expired: %+v", l)
	}

	made, path = program.link(nil)
	for range 2 {
		if code, _ := program.call("DELETE", "/api/v1/connect-links/"+made.ID.String(), nil, nil); code != http.StatusNoContent {
			t.Errorf("revoking: %d", code)
		}
	}
	for _, got := range []answer{p.get(path), p.post(path)} {
		if got.status != http.StatusGone || got.h1() != "This link was withdrawn" || wayBack(t, got).Get("patchbay_state") != "expired" {
			t.Errorf("revoked: %d %s", got.status, got.h1())
		}
	}
	if l := program.state(made.ID); l.State != db.LinkExpired || l.RevokedAt == nil || s.events(status.LinkRevoked) != 1 {
		t.Errorf("revoked: %+v", l)
	}

	for _, path := range []string{"/links/x", path + "x", "/links/" + made.ID.String(), "/links/" + pg.NewID().String(), "/links/" + string(pg.NewSecret())} {
		for _, got := range []answer{p.get(path), p.post(path)} {
			if got.status != http.StatusNotFound || got.h1() != "This link is not valid" {
				t.Errorf("%s: %d %s", path, got.status, got.h1())
			}
		}
	}

	connection := dbtest.Connection(t, s.db, made.Merchant.ID, "caminvoice", "KHUID00001234", "CH168 Co., Ltd")
	made, path = program.link(object{"provider": nil, "connection": connection.String()})
	if _, _, err := s.db.Disconnect(context.Background(), connection, pg.ID{}, audit.System, nil); err != nil {
		t.Fatal(err)
	}
	for _, got := range []answer{p.get(path), p.post(path)} {
		if got.status != http.StatusGone || got.h1() != "This cannot be done any more" || wayBack(t, got).Get("patchbay_state") != "failed" {
			t.Errorf("of a connection that has ended: %d %s", got.status, got.h1())
		}
	}
}

// TestALinkOpensItsTaskAndNothingElse has the browser of one link try what others may do.
func TestALinkOpensItsTaskAndNothingElse(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	program, p := s.program(pg.ID{}), s.visitor("")
	made, path := program.link(nil)
	if got := p.post(path, "provider", "flexiti"); got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, s.sandbox.BaseURL()) || !strings.Contains(got.location, "caminvoice") {
		t.Errorf("a link for CamInvoice begins at %d %q", got.status, got.location)
	}
	other := dbtest.Connection(t, s.db, made.Merchant.ID, "caminvoice", "KHUID00009999", "Other Co., Ltd")
	left := p.begin(path, "connection", other.String())
	flow, page := p.comeBack(p.consent(left.location, "KHUID00001234", "allow"))
	wantH1(t, page, isThisYours) // and not: another account than the one to reconnect
	for _, path := range []string{"/", "/account", "/connect/caminvoice", "/connections/" + other.String(), "/admin", "/reconnect/x"} {
		if got := p.get(path); !strings.HasPrefix(got.location, "/login") {
			t.Errorf("%s: %d %q", path, got.status, got.location)
		}
	}
	for _, path := range []string{"/connect/caminvoice", "/connections/" + other.String() + "/disconnect", "/connections/" + other.String() + "/reconnect", "/account"} {
		if got := p.post(path); !strings.HasPrefix(got.location, "/login") {
			t.Errorf("%s: %d %q", path, got.status, got.location)
		}
	}
	// An attempt of the same merchant's user is not the link's, and the link's is not its user's to choose for.
	own := s.merchant("Own Shop")
	own.leave("caminvoice")
	if got := p.get(s.flowPath()); !strings.HasPrefix(got.location, "/login") {
		t.Errorf("a user's attempt: %d", got.status)
	}
	colleague := s.merchant("CH168 Shop")
	if got := colleague.post(flow+"/choice", "choice", "connect"); got.status != http.StatusForbidden && got.status != http.StatusNotFound {
		t.Errorf("a colleague's choice: %d", got.status)
	}
}

func TestALinkToReconnectKeepsToItsConnection(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	program, p := s.program(pg.ID{}), s.visitor("")
	go1 := func(more object, account string) (apiLink, string, answer) {
		made, path := program.link(more)
		flow, page := p.comeBack(p.consent(p.begin(path).location, account, "allow"))
		return made, flow, page
	}
	first, flow, _ := go1(nil, "KHUID00001234")
	p.post(flow+"/choice", "choice", "connect")
	connection := program.state(first.ID).Connection

	again, flow, page := go1(object{"provider": nil, "connection": connection}, "KHUID00001234")
	if page.has(`[value="connect"]`) {
		p.post(flow+"/choice", "choice", "connect")
	}
	if l := program.state(again.ID); l.State != db.LinkConnected || l.Connection != connection || l.Provider != "caminvoice" {
		t.Errorf("reconnected: %+v", l)
	}
	differs, flow, page := go1(object{"provider": nil, "connection": connection}, "KHUID00005678")
	if !page.has(`[value="replace"]`) || page.has(`[value="keep-both"]`) {
		t.Errorf("another account came back: %s", page.h1())
	}
	p.post(flow+"/choice", "choice", "keep-both")
	if l := program.state(differs.ID); l.State != db.LinkBegun || l.Connection != connection {
		t.Errorf("another account was connected besides: %+v", l)
	}
	p.post(flow+"/choice", "choice", "cancel")
	if l := program.state(differs.ID); l.State != db.LinkCancelled || wayBack(t, p.get(flow)).Get("patchbay_state") != "cancelled" {
		t.Errorf("cancelled: %+v", l)
	}
}

func TestALinkMayBeTriedAgainInItsBrowser(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	program, p := s.program(pg.ID{}), s.visitor("")
	made, path := program.link(object{"return": "redirect"})
	_, page := p.comeBack(p.consent(p.begin(path).location, "KHUID00001234", "deny"))
	if back := wayBack(t, page); back.Get("patchbay_state") != "denied" || back.Has("patchbay_connection") {
		t.Errorf("denied: %v", back)
	}
	if l := program.state(made.ID); l.State != db.LinkDenied {
		t.Errorf("denied: %s", l.State)
	}
	again := "/links/" + made.ID.String()
	if !page.has(`main a[href="` + again + `"]`) {
		t.Fatal("there is no trying again")
	}
	flow, page := p.comeBack(p.consent(p.begin(again).location, "KHUID00001234", "allow"))
	wantH1(t, page, isThisYours)
	p.post(flow+"/choice", "choice", "connect")
	got := p.get(flow)
	u, err := url.Parse(got.location)
	if err != nil || got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, platform) || u.Query().Get("patchbay_state") != "connected" {
		t.Errorf("it ended well, and leads to %d %q", got.status, got.location)
	}
}

// TestALinkForAnyProvider picks one from the list, types credentials wrong and right, and is done.
func TestALinkForAnyProvider(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	program, p := s.program(pg.ID{}), s.visitor("")
	made, path := program.link(object{"provider": nil})
	page := p.get(path)
	wantH1(t, page, "What do you want to connect?")
	if !page.has(`a[href="` + path + `?provider=flexiti"]`) {
		t.Fatal("the list has no Flexiti")
	}
	form := p.get(path + "?provider=flexiti")
	wantH1(t, form, "Connect Flexiti")
	if action, _ := form.document().Find(`main form`).Attr("action"); action != path {
		t.Errorf("the form is sent to %s", action)
	}
	if got := p.get(path + "?provider=unheard-of"); got.status != http.StatusGone {
		t.Errorf("an unknown provider: %d", got.status)
	}
	wrong := p.post(path, "provider", "flexiti", "client_id", "flexiti-merchant", "client_secret", "wrong-secret", "scope", "merchant")
	if wrong.status != http.StatusUnprocessableEntity || program.state(made.ID).State != db.LinkFailed {
		t.Errorf("wrong credentials: %d, %s", wrong.status, program.state(made.ID).State)
	}
}

func TestAConfirmedLink(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	program, p := s.program(pg.ID{}), s.visitor("")
	made, path := program.link(object{"confirm": true})
	confirm := func(id pg.ID, code string) (int, string) {
		return program.call("POST", "/api/v1/connect-links/"+id.String()+"/confirm", object{"code": code}, nil)
	}
	flow, _ := p.comeBack(p.consent(p.begin(path).location, "KHUID00001234", "allow"))
	if _, problem := confirm(made.ID, ""); problem != "not-confirmed" {
		t.Errorf("confirmed before there is anything: %s", problem)
	}
	p.post(flow+"/choice", "choice", "connect")
	page := p.get(flow)
	wantH1(t, page, "Nearly done")
	back := wayBack(t, page)
	if back.Get("patchbay_state") != "confirming" || back.Get("patchbay_code") == "" || back.Has("patchbay_connection") {
		t.Fatalf("the way back has %v", back)
	}
	if l := program.state(made.ID); l.State != db.LinkConfirming || l.Connection != "" || s.events(status.ConnectionConnected) != 0 {
		t.Errorf("before it is confirmed: %+v", l)
	}
	staff := s.staff(audit.RoleSupport)
	if got := staff.get(flow); strings.Contains(got.body, back.Get("patchbay_code")) {
		t.Error("staff see the code")
	}
	other := s.program(dbtest.Merchant(t, s.db, "A Third Shop").ID)
	for _, code := range []string{"", "x", back.Get("patchbay_code") + "x", string(pg.NewSecret()), path} {
		if _, problem := confirm(made.ID, code); problem != "not-confirmed" {
			t.Errorf("the code %q: %s", code, problem)
		}
	}
	if code, _ := other.call("POST", "/api/v1/connect-links/"+made.ID.String()+"/confirm", object{"code": back.Get("patchbay_code")}, nil); code != http.StatusNotFound {
		t.Errorf("another merchant's program confirms: %d", code)
	}
	second, path2 := program.link(object{"confirm": true, "merchant": object{"external_id": "shop-18", "name": "Shop 18"}})
	p.begin(path2)
	if _, problem := confirm(second.ID, back.Get("patchbay_code")); problem != "not-confirmed" {
		t.Errorf("the code of another link: %s", problem)
	}
	for range 2 { // a program may try again
		if code, problem := confirm(made.ID, back.Get("patchbay_code")); code != http.StatusOK {
			t.Errorf("confirmed: %d %s", code, problem)
		}
	}
	l := program.state(made.ID)
	if l.State != db.LinkConnected || l.Connection == "" || s.events(status.ConnectionConnected) != 1 || s.events(status.LinkConfirmed) != 1 {
		t.Errorf("confirmed: %+v", l)
	}
	if back := wayBack(t, p.get(flow)); back.Get("patchbay_state") != "connected" || back.Has("patchbay_code") {
		t.Errorf("afterwards the way back has %v", back)
	}
	s.noSecrets(map[string]string{"code": back.Get("patchbay_code")})
}

// TestWhatIsNotConfirmedIsDropped lets the ten minutes pass.
func TestWhatIsNotConfirmedIsDropped(t *testing.T) {
	t.Parallel()
	for name, connected := range map[string]bool{"revoked where nobody has the account": false, "kept where another merchant has it": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
			program, p := s.program(pg.ID{}), s.visitor("")
			if connected {
				s.merchant("Another Shop").connect("caminvoice", "KHUID00001234")
			}
			made, path := program.link(object{"confirm": true})
			flow, _ := p.comeBack(p.consent(p.begin(path).location, "KHUID00001234", "allow"))
			p.post(flow+"/choice", "choice", "connect")
			code := wayBack(t, p.get(flow)).Get("patchbay_code")
			// By the clock of Postgres, since the sandbox's own cannot be moved.
			if _, err := s.db.Pool.Exec(context.Background(), `UPDATE flows SET expires_at = expires_at - interval '10 minutes' WHERE link_id = $1`, made.ID); err != nil {
				t.Fatal(err)
			}
			if l := program.state(made.ID); l.State != db.LinkExpired {
				t.Errorf("after ten minutes: %s", l.State)
			}
			if _, problem := program.call("POST", "/api/v1/connect-links/"+made.ID.String()+"/confirm", object{"code": code}, nil); problem != "not-confirmed" {
				t.Errorf("confirmed too late: %q", problem)
			}
			page := p.get(flow)
			wantH1(t, page, "This was not finished in time")
			if back := wayBack(t, page); back.Get("patchbay_state") != "expired" || back.Has("patchbay_code") {
				t.Errorf("the way back has %v", back)
			}
			s.startJobs()
			want := status.ConnectionRevoked
			if connected {
				want = status.ConnectionRevokeKept
			}
			dbtest.Eventually(t, "the provider is asked", func() bool { return s.events(want) == 1 })
			var sealed int
			if err := s.db.Pool.QueryRow(context.Background(), `SELECT count(*) FROM flows WHERE link_id = $1 AND sealed IS NOT NULL`, made.ID).Scan(&sealed); err != nil || sealed != 0 {
				t.Errorf("%d attempts still hold access, %v", sealed, err)
			}
		})
	}
}

// TestARevokedLinkEndsWhatItBegan withdraws a link at every stage of its attempt.
func TestARevokedLinkEndsWhatItBegan(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	program := s.program(pg.ID{})
	revoke := func(l apiLink) {
		t.Helper()
		if code, problem := program.call("DELETE", "/api/v1/connect-links/"+l.ID.String(), nil, nil); code != http.StatusNoContent {
			t.Errorf("revoke: %d %s", code, problem)
		}
	}
	ended := func(p *person, l apiLink, flow string) {
		t.Helper()
		wantH1(t, p.get(flow), "This was withdrawn")
		if got := p.post(flow+"/choice", "choice", "connect"); got.status != http.StatusSeeOther || program.state(l.ID).State != db.LinkExpired {
			t.Errorf("a choice afterwards: %d, %s", got.status, program.state(l.ID).State)
		}
		if got := p.post("/links/" + l.ID.String()); got.h1() != "This link was withdrawn" {
			t.Errorf("once more: %d %s", got.status, got.h1())
		}
	}
	p := s.visitor("")
	made, path := program.link(nil)
	left := p.begin(path)
	revoke(made)
	flow, _ := p.comeBack(p.consent(left.location, "KHUID00001234", "allow"))
	ended(p, made, flow)

	p = s.visitor("")
	made, path = program.link(nil)
	flow, _ = p.comeBack(p.consent(p.begin(path).location, "KHUID00001234", "allow"))
	revoke(made)
	ended(p, made, flow)

	p = s.visitor("")
	made, path = program.link(object{"confirm": true})
	flow, _ = p.comeBack(p.consent(p.begin(path).location, "KHUID00001234", "allow"))
	p.post(flow+"/choice", "choice", "connect")
	code := wayBack(t, p.get(flow)).Get("patchbay_code")
	revoke(made)
	ended(p, made, flow)
	if _, problem := program.call("POST", "/api/v1/connect-links/"+made.ID.String()+"/confirm", object{"code": code}, nil); problem != "not-confirmed" {
		t.Errorf("confirmed afterwards: %q", problem)
	}
	if s.events(status.ConnectionConnected) != 0 {
		t.Error("something was connected")
	}

	p = s.visitor("")
	made, path = program.link(nil)
	flow, _ = p.comeBack(p.consent(p.begin(path).location, "KHUID00001234", "allow"))
	p.post(flow+"/choice", "choice", "connect")
	revoke(made)
	if l := program.state(made.ID); l.State != db.LinkConnected {
		t.Errorf("what was connected before is %s", l.State)
	}
}

// TestAForgedLinkOpensNothing changes what a row gives, as one who writes rows without the keyset may.
func TestAForgedLinkOpensNothing(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, leadsBack())
	program := s.program(pg.ID{})
	other := dbtest.Merchant(t, s.db, "Another Shop")
	connection := dbtest.Connection(t, s.db, other.ID, "caminvoice", "KHUID00001234", "CH168 Co., Ltd")
	for what, set := range map[string]string{
		"merchant":   `merchant_id = '` + other.ID.String() + `'`,
		"connection": `connection_id = '` + connection.String() + `'`,
		"provider":   `provider = 'flexiti'`,
		"end":        `expires_at = expires_at + interval '1 second'`,
		"browser":    `browser_hash = sha256('x'), bound_at = now()`,
		"way back":   `return_url = return_url || 'x'`,
		"confirming": `confirms = false`,
		"redirect":   `redirects = true`,
		"secret":     `secret_hash = sha256('mine')`,
		"withdrawal": `revoked_at = now()`,
	} {
		made, path := program.link(object{"confirm": true})
		if what == "secret" {
			path = "/links/mine"
		}
		if _, err := s.db.Pool.Exec(context.Background(), `UPDATE connect_links SET `+set+` WHERE id = $1`, made.ID); err != nil {
			t.Fatal(err)
		}
		p := s.visitor("")
		for _, got := range []answer{p.get(path), p.post(path)} {
			if got.status != http.StatusNotFound {
				t.Errorf("%s: %d %s", what, got.status, got.h1())
			}
		}
		if code, _ := program.call("GET", "/api/v1/connect-links/"+made.ID.String(), nil, nil); code != http.StatusNotFound {
			t.Errorf("%s: the API answers %d", what, code)
		}
	}
}

// TestAForgedLinkHidesNoOther forges links where pages of the list begin and end.
func TestAForgedLinkHidesNoOther(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, leadsBack())
	program := s.program(pg.ID{})
	var whole []pg.ID // the latest first
	for n := range 9 {
		made, _ := program.link(nil)
		if n%3 != 0 {
			whole = append([]pg.ID{made.ID}, whole...)
			continue
		}
		if _, err := s.db.Pool.Exec(context.Background(), `UPDATE connect_links SET confirms = true WHERE id = $1`, made.ID); err != nil {
			t.Fatal(err)
		}
	}
	for limit := 1; limit <= 4; limit++ {
		var listed []pg.ID
		for cursor, pages := "", 0; ; pages++ {
			page, err := s.db.ConnectLinks(t.Context(), pg.ID{}, cursor, limit)
			if err != nil || pages > 9 {
				t.Fatalf("page %d of %d: %v", pages, limit, err)
			}
			for _, l := range page.Rows {
				listed = append(listed, l.ID)
			}
			if cursor = page.Next; cursor == "" {
				break
			}
		}
		if !slices.Equal(listed, whole) {
			t.Errorf("in pages of %d %d links are listed, want %d", limit, len(listed), len(whole))
		}
	}
}

// TestAnotherSiteCannotBegin: with a link of its own making a site could otherwise have its visitor's browser connect for it.
func TestAnotherSiteCannotBegin(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, leadsBack())
	program, p := s.program(pg.ID{}), s.visitor("")
	made, path := program.link(nil)
	for name, value := range map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"} {
		r := request(t, http.MethodPost, s.url+path, nil)
		r.Header.Set(name, value)
		if got := p.do(r); got.status != http.StatusForbidden {
			t.Errorf("%s: %d %s", name, got.status, got.location)
		}
	}
	if l := program.state(made.ID); l.State != db.LinkOpen {
		t.Errorf("it is %s", l.State)
	}
}
