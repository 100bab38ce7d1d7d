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
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
	"patchbay/internal/trace"
	"patchbay/internal/webhooks"
)

// testServer is a running Patchbay with a database of its own.
type testServer struct {
	t        *testing.T
	db       *db.DB
	accounts *account.Store
	database dbtest.Database
	clock    *dbtest.Clock // nil where time passes by itself
	server   *Server
	engine   *refresh.Engine
	jobs     *jobs.Jobs
	webhooks *webhooks.Webhooks
	sandbox  *sandbox.Sandbox // nil without
	url      string
	log      *dbtest.Log
	mu       sync.Mutex
	waits    []time.Duration // what requests would have waited; the clock was moved instead
}

// serverOption changes what newTestServer makes.
type serverOption func(*serverOptions)

type serverOptions struct {
	clock     *dbtest.Clock
	sandbox   *sandbox.Options
	connector connectors.Connector
	database  *dbtest.Database // nil: one of the test's own on the shared cluster
	replica   string           // the address of its standby; "" without
	change    func(*Options, *jobs.Options)
}

// withSandbox sets up every provider, imitated on another site. Time passes.
func withSandbox(s sandbox.Options) serverOption {
	return func(o *serverOptions) { o.sandbox, o.clock = &s, nil }
}

// withConnector sets up one provider. Time passes.
func withConnector(c connectors.Connector) serverOption {
	return func(o *serverOptions) { o.connector, o.clock = c, nil }
}

// withClock has time stand still until the test moves it.
func withClock(c *dbtest.Clock) serverOption { return func(o *serverOptions) { o.clock = c } }

func withOptions(change func(*Options, *jobs.Options)) serverOption {
	return func(o *serverOptions) { o.change = change }
}

// withReplica uses a database that has a standby, and watches that.
func withReplica(database dbtest.Database, standby string) serverOption {
	return func(o *serverOptions) { o.database, o.replica = &database, standby }
}

// newTestServer starts a Patchbay. Without options, CamInvoice is set up at an address where nothing answers, and time
// stands still until the test moves it.
func newTestServer(t *testing.T, options ...serverOption) *testServer {
	t.Helper()
	o := serverOptions{clock: dbtest.NewClock(time.Now().UTC())}
	for _, option := range options {
		option(&o)
	}
	s := &testServer{t: t, log: &dbtest.Log{}, clock: o.clock}
	if o.database != nil {
		s.database = *o.database
	} else {
		s.database = dbtest.Make(t)
	}
	log := slog.New(trace.LogHandler(slog.NewTextHandler(s.log, nil)))
	dbOptions := pg.Options{Replica: o.replica, Log: log}
	if s.clock != nil {
		dbOptions.Clock = s.clock.Clock
	}
	s.db = s.database.Open(t, dbOptions)
	go s.db.WatchReplica(t.Context())
	s.accounts = account.New(s.db)
	listening := httptest.NewUnstartedServer(nil)
	s.url = "http://" + listening.Listener.Addr().String()
	public, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	providers := s.providers(o)
	var all []connectors.Connector
	for _, p := range providers {
		if p.Connector != nil {
			all = append(all, p.Connector)
		}
	}
	s.engine = refresh.New(refresh.Options{DB: s.db, Connectors: all, Log: log})
	t.Cleanup(func() {
		if err := s.engine.Stop(context.Background()); err != nil {
			t.Errorf("stop refreshing: %v", err)
		}
	})
	s.webhooks = webhooks.New(webhooks.Options{DB: s.db, Providers: connectors.Statuses(providers), Private: true, Log: log})
	serve := Options{
		DB: s.db, Webhooks: s.webhooks, Accounts: s.accounts, Providers: providers, Refresh: s.engine, Log: log, PublicURL: public,
		SessionKeys: [][]byte{[]byte("a key for sessions in tests, long")},
	}
	work := jobs.Options{DB: s.db, Webhooks: s.webhooks, Accounts: s.accounts, Refresh: s.engine, Log: log, Providers: providers, PublicURL: public, Outbox: true}
	if o.change != nil {
		o.change(&serve, &work)
	}
	if s.jobs, err = jobs.New(work); err != nil {
		t.Fatal(err)
	}
	serve.Jobs = s.jobs
	s.server = New(serve)
	if s.clock != nil {
		s.server.pause = func(_ context.Context, wait time.Duration) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.waits = append(s.waits, wait)
			s.clock.Advance(wait)
			return nil
		}
	}
	listening.Config.Handler = s.server.Routes()
	listening.Start()
	t.Cleanup(listening.Close)
	return s
}

func (s *testServer) providers(o serverOptions) []connectors.Provider {
	s.t.Helper()
	if o.connector != nil {
		info := o.connector.Info()
		return []connectors.Provider{{Name: info.Name, Title: info.Title, Environment: info.Environment, Connector: o.connector}}
	}
	settings := map[string]string{
		"CAMINVOICE_API_URL": "http://127.0.0.1:1", "CAMINVOICE_CLIENT_ID": "platform", "CAMINVOICE_CLIENT_SECRET": "0123456789abcdef", "CAMINVOICE_ENVIRONMENT": "sandbox",
	}
	var file []byte
	if o.sandbox != nil {
		o.sandbox.AppURLs = []string{s.url}
		o.sandbox.CamInvoice.Callbacks = []string{s.url + "/connect/caminvoice/callback"}
		var err error
		if s.sandbox, err = sandbox.Start("127.0.0.1:0", *o.sandbox); err != nil {
			s.t.Fatal(err)
		}
		s.t.Cleanup(func() { s.sandbox.Close() })
		settings, file = s.sandbox.Settings(), s.sandbox.ConnectorsFile()
		settings["CAMINVOICE_HOOK_SECRET"] = "hook-secret-of-the-test"
	}
	providers, err := connectors.Load(func(name string) string { return settings[name] }, file, connectors.NewClient(nil, nil))
	if err != nil {
		s.t.Fatal(err)
	}
	return providers
}

// startJobs has jobs done from here on.
func (s *testServer) startJobs() {
	s.t.Helper()
	if err := s.jobs.Start(context.Background()); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if err := s.jobs.Stop(context.Background()); err != nil {
			s.t.Errorf("stop jobs: %v", err)
		}
	})
}

// mailTo returns the newest mail to an address that contains a text, once it is there.
func (s *testServer) mailTo(email, containing string) string {
	s.t.Helper()
	var text string
	dbtest.Eventually(s.t, "mail to "+email, func() bool {
		mails, err := notify.OutboxMails(context.Background(), s.db.Keyring, 20)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, m := range mails {
			if m.Recipient == email && strings.Contains(m.Text, containing) {
				text = m.Text
				return true
			}
		}
		return false
	})
	return text
}

func (s *testServer) events(kind status.Kind) int {
	s.t.Helper()
	return dbtest.Events(s.t, s.db, kind)
}

// flowPath is the page of the newest attempt to connect.
func (s *testServer) flowPath() string {
	s.t.Helper()
	reference, _ := dbtest.LastFlow(s.t, s.db)
	return "/flows/" + reference
}

// noSecrets looks for secrets in a dump and in the log.
func (s *testServer) noSecrets(secrets map[string]string) {
	s.t.Helper()
	dump, err := exec.Command("pg_dump", "--data-only", s.database.URL).Output()
	if err != nil {
		s.t.Fatalf("pg_dump: %v", err)
	}
	for name, secret := range secrets {
		if bytes.Contains(dump, []byte(secret)) || strings.Contains(s.log.String(), secret) {
			s.t.Errorf("the %s is readable in the database or the log", name)
		}
	}
}

const password = "correct horse battery"

// person is a user, or nobody in particular, with a browser.
type person struct {
	*testServer
	client   *http.Client
	email    string
	merchant pg.ID
}

// merchant adds a user of the merchant with that name and signs them in.
func (s *testServer) merchant(name string) *person {
	s.t.Helper()
	email := fmt.Sprintf("user%d@%s.example", time.Now().UnixNano(), strings.ToLower(strings.ReplaceAll(name, " ", "-")))
	u := dbtest.User(s.t, s.db, audit.RoleMerchant, email, password, name)
	p := s.visitor(email)
	p.merchant = u.MerchantID
	p.signIn("")
	return p
}

// staff adds a user of the platform and signs them in.
func (s *testServer) staff(role audit.Role) *person {
	s.t.Helper()
	p := s.visitor(string(role) + "@platform.example")
	dbtest.User(s.t, s.db, role, p.email, password, "")
	p.signIn("")
	return p
}

// visitor is a person who has not signed in.
func (s *testServer) visitor(email string) *person {
	p := &person{testServer: s, email: email}
	p.newBrowser()
	return p
}

// client is for requests that no browser makes.
var client = &http.Client{Timeout: time.Minute}

func (p *person) newBrowser() {
	jar, _ := cookiejar.New(nil)
	p.client = &http.Client{Jar: jar, Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// signIn returns where the browser is sent afterwards.
func (p *person) signIn(next string) string {
	p.t.Helper()
	got := p.post("/login", "email", p.email, "password", password, "next", next)
	if got.status != http.StatusSeeOther {
		p.t.Fatalf("sign-in: %d %s", got.status, got.h1())
	}
	return got.location
}

func (p *person) cookie(name string) string {
	at, _ := url.Parse(p.url)
	for _, c := range p.client.Jar.Cookies(at) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

func (p *person) setCookie(name, value string) {
	at, _ := url.Parse(p.url)
	p.client.Jar.SetCookies(at, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// do returns the zero answer, and the test has failed, if there is none. It may be called from any goroutine, as may get and post.
func (p *person) do(r *http.Request) answer {
	p.t.Helper()
	got, err := p.client.Do(r)
	if err != nil {
		p.t.Error(err)
		return answer{}
	}
	defer got.Body.Close()
	body, err := io.ReadAll(got.Body)
	if err != nil {
		p.t.Error(err)
		return answer{}
	}
	return answer{got.StatusCode, got.Header.Get("Location"), string(body), got.Header.Get(trace.Header), got.Header.Get("Retry-After")}
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
	return p.postForm(p.at(path), form)
}

func (p *person) postForm(address string, form url.Values) answer {
	p.t.Helper()
	r := request(p.t, http.MethodPost, address, strings.NewReader(form.Encode()))
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
		t.Error(err)
		return &http.Request{Header: http.Header{}} // which no client sends
	}
	return r
}
