// Package sandbox imitates the built-in providers and a standard OAuth 2.0 / OpenID Connect provider, as strictly as what
// is known about them allows, for the demo, for staging and for tests. One handler serves all of them, each under its
// own path. It shares no code with the connectors: an imitation that did would only prove that the code agrees with
// itself. Where a provider documents nothing, a comment says that the behaviour is the sandbox's guess.
package sandbox

import (
	"cmp"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Names of the providers, as used in faults, counters and grants. The standard provider's is Options.Standard.Name.
const (
	CamInvoice = "caminvoice"
	ELECQ      = "elecq"
	Flexiti    = "flexiti"
	Bookings   = "bookings"
)

// Options say what the sandbox is like. The zero value is a sandbox at http://localhost:8090 that behaves as documented.
type Options struct {
	// BaseURL is the address in browsers' bars, without a trailing slash. Default http://localhost:8090.
	BaseURL string
	// AppURLs are the PUBLIC_URLs of the apps that use the sandbox. Their callbacks ({AppURL}/connect/{provider}/callback)
	// are registered in advance with ELECQ and the standard provider, which agree them beforehand. CamInvoice's
	// whitelist stays empty until it is configured, or CamInvoice.Callbacks fills it.
	AppURLs []string
	// AnswerAtOnce skips every consent page: the first sample account allows. For benchmarks.
	AnswerAtOnce bool
	// PlatformURL is the address of a sample platform that uses the app, for the front page. None by default.
	PlatformURL string
	// StateFile keeps grants, refresh tokens, revocations and registrations across restarts. None by default.
	StateFile string
	// Remember is how many issued secrets Secrets keeps, the newest first to stay. Default 200,000; negative: none.
	Remember int
	// Now is the sandbox's clock. Default time.Now.
	Now func() time.Time

	CamInvoice CamInvoiceOptions
	ELECQ      ELECQOptions
	Flexiti    FlexitiOptions
	Bookings   BookingsOptions
	Standard   StandardOptions
}

// Sandbox is an http.Handler that serves every provider, their consent pages and the control page.
type Sandbox struct {
	o     Options
	mux   *http.ServeMux
	pages *template.Template
	keys  rsaKeys

	cam  *camInvoice
	std  *standard
	stop chan struct{}

	mu         sync.Mutex // guards everything below; never held across a write to the network
	state      state
	stateErr   error
	codes      map[string]*code
	faults     map[string]*Fault // by "provider endpoint"
	endpoints  map[string]*endpoint
	records    []Record
	spends     []DoubleSpend
	deliveries []Delivery
	issued     []string // ring of remembered secrets
	issuedAt   int
	inserts    int
	saveTimer  *time.Timer
	closed     bool

	server *http.Server // only when Start made it
}

// New returns a sandbox. When the state file cannot be read it starts empty, leaves the file alone and Err says why.
func New(o Options) *Sandbox {
	o.BaseURL = strings.TrimRight(cmp.Or(o.BaseURL, "http://localhost:8090"), "/")
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Remember == 0 {
		o.Remember = 200_000
	}
	o.CamInvoice.defaults()
	o.ELECQ.defaults()
	o.Flexiti.defaults()
	o.Bookings.defaults()
	o.Standard.defaults()
	s := &Sandbox{
		o:         o,
		mux:       http.NewServeMux(),
		pages:     parsePages(),
		stop:      make(chan struct{}),
		codes:     map[string]*code{},
		faults:    map[string]*Fault{},
		endpoints: map[string]*endpoint{},
	}
	s.load()
	s.cam = serveCamInvoice(s)
	serveELECQ(s)
	serveFlexiti(s)
	serveBookings(s)
	s.std = serveStandard(s)
	serveImitations(s)
	serveControl(s)
	return s
}

// Start serves a sandbox on address (host:port; port 0 picks one) until Close. When Options.BaseURL is empty it becomes
// http://localhost:PORT, so that an app on 127.0.0.1 meets the providers on another site, as in life.
func Start(address string, o Options) (*Sandbox, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("sandbox: listen: %w", err)
	}
	if o.BaseURL == "" {
		o.BaseURL = fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port)
	}
	s := New(o)
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go s.server.Serve(listener)
	return s, nil
}

// ServeHTTP serves every provider under its path.
func (s *Sandbox) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// BaseURL is the sandbox's address without a trailing slash.
func (s *Sandbox) BaseURL() string { return s.o.BaseURL }

// Err returns why the state file could not be read or written, or nil.
func (s *Sandbox) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stateErr
}

// Close ends waiting calls, writes the state file and, after Start, closes the listener.
func (s *Sandbox) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	s.mu.Unlock()
	var err error
	if s.server != nil {
		err = s.server.Close()
	}
	return errors.Join(err, s.save())
}

// Settings returns the environment that an app needs to use the sandbox, without CONNECTORS_FILE: see ConnectorsFile.
func (s *Sandbox) Settings() map[string]string {
	b := s.o.BaseURL
	m := map[string]string{
		"CAMINVOICE_API_URL":       b + "/caminvoice",
		"CAMINVOICE_CLIENT_ID":     s.o.CamInvoice.ClientID,
		"CAMINVOICE_CLIENT_SECRET": s.o.CamInvoice.ClientSecret,
		"CAMINVOICE_ENVIRONMENT":   "sandbox",
		"ELECQ_AUTHORIZE_URL":      b + "/elecq/authorize",
		"ELECQ_TOKEN_URL":          b + "/elecq/token",
		"ELECQ_REFRESH_URL":        b + "/elecq/refresh",
		"ELECQ_AUTHORIZE":          s.o.ELECQ.Authorize,
		"ELECQ_ENVIRONMENT":        "sandbox",
		"FLEXITI_API_URL":          b + "/flexiti/pos-api",
		"FLEXITI_PORTAL_URL":       b + "/",
		"FLEXITI_ENVIRONMENT":      "sandbox",
		"BOOKINGS_API_URL":         b + "/bookings",
		"BOOKINGS_TITLE":           "Sample Bookings",
		"BOOKINGS_ENVIRONMENT":     "sandbox",
		"ACME_SECRET":              s.o.Standard.ClientSecret,
	}
	if s.o.ELECQ.Authorize != "credentials" {
		m["ELECQ_CLIENT_ID"] = s.o.ELECQ.ClientID
		m["ELECQ_CLIENT_SECRET"] = s.o.ELECQ.ClientSecret
	}
	return m
}

// Secrets lists every secret configured and the newest Options.Remember that were issued: client secrets, typed
// credentials, tokens, refresh tokens and codes. Tests search logs and dumps for them.
func (s *Sandbox) Secrets() []string {
	all := []string{s.o.CamInvoice.ClientSecret, s.o.ELECQ.ClientSecret, s.o.Standard.ClientSecret}
	for _, m := range s.o.ELECQ.Merchants {
		all = append(all, m.ClientSecret)
	}
	for _, m := range s.o.Flexiti.Merchants {
		all = append(all, m.ClientSecret)
		if m.Password != "" {
			all = append(all, m.Password)
		}
	}
	for _, m := range s.o.Bookings.Merchants {
		all = append(all, m.ClientSecret)
	}
	for _, r := range wellKnown() {
		all = append(all, r.clientSecret())
		for _, one := range r.typed {
			all = append(all, one.secret)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return append(all, s.issued...)
}

// remember keeps a secret for Secrets. The caller holds the lock.
func (s *Sandbox) remember(secrets ...string) {
	for _, one := range secrets {
		switch {
		case one == "" || s.o.Remember < 0:
		case len(s.issued) < s.o.Remember:
			s.issued = append(s.issued, one)
		default:
			s.issued[s.issuedAt%s.o.Remember] = one
			s.issuedAt++
		}
	}
}

// Allow registers a callback address with a provider, beside those it has.
func (s *Sandbox) Allow(provider, callback string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allow(provider, callback)
	s.changed()
}

func (s *Sandbox) allow(provider string, callbacks ...string) {
	for _, c := range callbacks {
		if !slices.Contains(s.state.Callbacks[provider], c) {
			s.state.Callbacks[provider] = append(s.state.Callbacks[provider], c)
		}
	}
}

func (s *Sandbox) allowed(provider, callback string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return callback != "" && slices.Contains(s.state.Callbacks[provider], callback)
}

// appCallbacks are the callbacks of Options.AppURLs at a provider.
func (s *Sandbox) appCallbacks(provider string) []string {
	var all []string
	for _, app := range s.o.AppURLs {
		all = append(all, strings.TrimRight(app, "/")+"/connect/"+provider+"/callback")
	}
	return all
}
