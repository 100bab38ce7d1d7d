package handlers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/sandbox"
)

// town is a running Patchbay with the providers' sandboxes on another site, and people who use it.
type town struct {
	t        *testing.T
	db       *db.DB
	database dbtest.Database
	sandbox  *sandbox.Sandbox
	url      string
	log      *lines
	jobs     *jobs.Jobs
}

// lines is what was logged.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newTown(t *testing.T, o sandbox.Options, clock ...*pg.Clock) *town {
	t.Helper()
	s := &town{t: t, log: &lines{}, database: dbtest.Make(t)}
	var options pg.Options
	if len(clock) > 0 {
		options.Clock = clock[0]
	}
	s.db = s.database.Open(t, options)
	server := httptest.NewUnstartedServer(nil)
	s.url = "http://" + server.Listener.Addr().String()
	o.AppURLs = []string{s.url}
	o.CamInvoice.Callbacks = []string{s.url + "/connect/caminvoice/callback"}
	var err error
	if s.sandbox, err = sandbox.Start("127.0.0.1:0", o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.sandbox.Close() })
	settings := s.sandbox.Settings()
	settings["CAMINVOICE_HOOK_SECRET"] = "hook-secret-of-the-test"
	setups, err := connectors.Load(func(name string) string { return settings[name] }, s.sandbox.ConnectorsFile(), connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	public, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(s.log, nil))
	var all []connectors.Connector
	for _, setup := range setups {
		if setup.Connector != nil {
			all = append(all, setup.Connector)
		}
	}
	engine := refresh.New(refresh.Options{DB: s.db, Connectors: all, Log: log})
	if s.jobs, err = jobs.New(jobs.Options{DB: s.db, Refresh: engine, Log: log, Providers: setups, PublicURL: public, Outbox: true}); err != nil {
		t.Fatal(err)
	}
	server.Config.Handler = New(Options{
		DB: s.db, Providers: setups, Log: log, PublicURL: public, Refresh: engine, Jobs: s.jobs,
		SessionKeys: [][]byte{[]byte("a key for sessions in tests, long")},
	}).Routes()
	server.Start()
	t.Cleanup(server.Close)
	return s
}

// person is somebody with a browser.
type person struct {
	*town
	client   *http.Client
	email    string
	merchant pg.ID
}

// merchant adds a user of the merchant with that name and signs them in.
func (s *town) merchant(name string) *person {
	s.t.Helper()
	email := fmt.Sprintf("user%d@%s.example", time.Now().UnixNano(), strings.ToLower(strings.ReplaceAll(name, " ", "-")))
	u, err := s.db.AddUser(context.Background(), db.System(), db.NewUser{Role: db.RoleMerchant, Email: email, Password: "correct horse battery", MerchantName: name})
	if err != nil {
		s.t.Fatal(err)
	}
	p := &person{town: s, email: email, merchant: u.MerchantID}
	p.newBrowser()
	p.signIn("")
	return p
}

func (s *town) staff(role string) *person {
	s.t.Helper()
	p := &person{town: s, email: role + "@platform.example"}
	if _, err := s.db.AddUser(context.Background(), db.System(), db.NewUser{Role: role, Email: p.email, Password: "correct horse battery"}); err != nil {
		s.t.Fatal(err)
	}
	p.newBrowser()
	p.signIn("")
	return p
}

func (p *person) newBrowser() {
	jar, _ := cookiejar.New(nil)
	p.client = &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// signIn returns where the browser is sent afterwards.
func (p *person) signIn(next string) string {
	p.t.Helper()
	got := p.post("/login", "email", p.email, "password", "correct horse battery", "next", next)
	if got.status != http.StatusSeeOther {
		p.t.Fatalf("sign-in: %d %s", got.status, got.h1())
	}
	return got.location
}

type answer struct {
	status         int
	location, body string
}

func (a answer) h1() string {
	m := regexp.MustCompile(`(?s)<h1[^>]*>(.*?)</h1>`).FindStringSubmatch(a.body)
	if m == nil {
		return ""
	}
	return strings.TrimSpace(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(m[1], ""))
}

func (p *person) do(r *http.Request) answer {
	p.t.Helper()
	got, err := p.client.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer{got.StatusCode, got.Header.Get("Location"), string(body)}
}

func (p *person) get(path string) answer {
	p.t.Helper()
	return p.do(request(p.t, http.MethodGet, p.at(path), nil))
}

func (p *person) post(path string, fields ...string) answer {
	p.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Add(fields[i], fields[i+1])
	}
	r := request(p.t, http.MethodPost, p.at(path), strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return p.do(r)
}

func (p *person) at(path string) string {
	if strings.HasPrefix(path, "/") {
		return p.url + path
	}
	return path
}

func request(t *testing.T, method, address string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

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
	form := url.Values{"account": {account}, "decision": {decision}}
	for _, m := range regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`).FindAllStringSubmatch(page.body, -1) {
		form.Set(m[1], strings.NewReplacer("&amp;", "&", "&#43;", "+", "&#34;", `"`).Replace(m[2]))
	}
	action := regexp.MustCompile(`<form method="post" action="([^"]*)">`).FindStringSubmatch(page.body)
	if action == nil {
		p.t.Fatalf("no consent page at %s: %d %s", at, page.status, page.body)
	}
	r := request(p.t, http.MethodPost, p.sandbox.BaseURL()+action[1], strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	got := p.do(r)
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
	if strings.Contains(page.body, `value="connect"`) {
		if got := p.post(path+"/choice", "choice", "connect"); got.status != http.StatusSeeOther || got.location != path {
			p.t.Fatalf("choice: %d %q", got.status, got.location)
		}
		page = p.get(path)
	}
	return path, page
}

func (p *person) connections() []db.Owned {
	p.t.Helper()
	list, err := p.db.MerchantConnections(context.Background(), p.merchant)
	if err != nil {
		p.t.Fatal(err)
	}
	return list
}

func wantH1(t *testing.T, page answer, want string) {
	t.Helper()
	if page.h1() != want {
		t.Errorf("page %d says %q, want %q", page.status, page.h1(), want)
	}
}

const (
	caminvoiceConnected = "CamInvoice is connected"
	isThisYours         = "Is this your business?"
)

func TestEveryProviderConnects(t *testing.T) {
	t.Parallel()
	s := newTown(t, sandbox.Options{})
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
	s := newTown(t, sandbox.Options{})
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
		all.Wait()
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

func exchanges(s *town, provider string) int {
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
	s := newTown(t, sandbox.Options{CamInvoice: sandbox.CamInvoiceOptions{EchoState: true}})
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

	elsewhere := &person{town: s, email: p.email, merchant: p.merchant}
	elsewhere.newBrowser()
	elsewhere.signIn("")
	_, page = elsewhere.comeBack(u.String())
	wantH1(t, page, otherBrowser)

	nobody := &person{town: s}
	nobody.newBrowser()
	path, page := nobody.comeBack(u.String())
	wantH1(t, page, otherBrowser)
	if path != "/connect/caminvoice/ended/other-browser" {
		t.Errorf("nobody was sent to %s", path)
	}

	inPlace := &person{town: s, client: p.client, email: stranger.email}
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
	s := newTown(t, sandbox.Options{})
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
	s := newTown(t, sandbox.Options{})
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
	s := newTown(t, sandbox.Options{})
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
				if page := p.get(got.location); strings.Contains(page.body, `value="connect"`) {
					p.post(got.location+"/choice", "choice", "connect")
				}
				page := p.get(got.location)
				if strings.Contains(page.body, `value="connect"`) { // the other tab was quicker: it is asked again
					p.post(got.location+"/choice", "choice", "connect")
					page = p.get(got.location)
				}
				if !strings.Contains(page.h1(), "is connected") {
					t.Errorf("%s: a tab ended at %q", provider, page.h1())
				}
			})
		}
		all.Wait()
	}
	if n := len(p.connections()); n != 2 {
		t.Errorf("%d connections, want one for each provider", n)
	}
}

func TestLateAndInterrupted(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	ahead := time.Duration(0)
	clock := pg.NewClock(func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead) })
	wait := func(d time.Duration) { mu.Lock(); ahead += d; mu.Unlock() }
	s := newTown(t, sandbox.Options{}, clock)
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
	s.exec(`UPDATE flows SET stage = 'exchanging', touched_at = $1 WHERE stage = 'begun'`, clock.Now()) // as a killed process leaves it
	wait(time.Minute + time.Second)
	path, page = p.comeBack(callback)
	wantH1(t, page, "We were interrupted")
	if n := exchanges(s, "acme"); n != 0 {
		t.Errorf("%d exchanges after an interruption", n)
	}
	if len(p.connections()) != 0 {
		t.Error("something was saved")
	}
	if n := s.count(`SELECT count(*) FROM flows WHERE sealed IS NOT NULL`); n != 0 {
		t.Errorf("%d flows that are over hold something sealed", n)
	}
	if support := s.staff(db.RoleSupport); !strings.Contains(support.get(strings.ToLower(path)).body, "CH168 Shop") {
		t.Error("support cannot look the attempt up by its reference")
	}
}

func (s *town) exec(sql string, args ...any) {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), s.database.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql, args...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *town) count(sql string, args ...any) (n int) {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), s.database.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

func TestSignedOutMeanwhile(t *testing.T) {
	t.Parallel()
	s := newTown(t, sandbox.Options{})
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
	other := &person{town: s, client: p.client, email: stranger.email}
	other.signIn("")
	if got := other.get(s.lastFlow()); got.status != http.StatusNotFound {
		t.Errorf("somebody else's attempt: %d, want 404", got.status)
	}
	if n := exchanges(s, "acme"); n != 1 {
		t.Errorf("somebody else spent the answer")
	}
}

func (s *town) lastFlow() string {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), s.database.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var reference string
	if err := conn.QueryRow(context.Background(), `SELECT reference FROM flows ORDER BY created_at DESC LIMIT 1`).Scan(&reference); err != nil {
		s.t.Fatal(err)
	}
	return "/flows/" + reference
}

// TestCallbacksLeaveNoAnswerBehind: whatever breaks on our side, the browser is sent away from the provider's answer, and
// no page repeats it.
func TestCallbacksLeaveNoAnswerBehind(t *testing.T) {
	t.Parallel()
	s := newTown(t, sandbox.Options{})
	p, anonymous := s.merchant("CH168 Shop"), &person{town: s}
	anonymous.newBrowser()
	for _, provider := range []string{"nobody-knows", "flexiti"} {
		got := p.get("/connect/" + provider + "/callback?authToken=kept-to-itself")
		if got.status != http.StatusNotFound || strings.Contains(got.body, "kept-to-itself") {
			t.Errorf("%s: %d, or the answer is on the page", provider, got.status)
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
