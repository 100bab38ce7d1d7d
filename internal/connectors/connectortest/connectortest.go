// Package connectortest holds every connector to the same rules, when its provider works and when it fails. A test brings
// a fake of the working provider. The failures are derived from it, at each call of each operation in turn.
package connectortest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// Case is one connector under test.
type Case struct {
	// Good returns a new fake of the provider that answers as documented. It finds its own address in the request's Host.
	Good func() http.Handler
	// New returns the connector for a provider at base, such as http://127.0.0.1:4711.
	New func(t *testing.T, base string) connectors.Connector
	// Callback acts as person and provider for a Redirector: it returns the query that comes back after a visit to location.
	Callback func(location string) url.Values
	// Inputs are what a merchant types for a CredentialConnector.
	Inputs map[string]string
	// Secrets must show in no error and no Call, and neither may the inputs of secret fields and the flow's own secrets.
	Secrets []string
	// Unauthorized is the outcome that a 401 without a code has, by operation ("authorize", "exchange", "authenticate",
	// "refresh", "revoke" …) or, where one of its calls differs, by operation and path ("exchange /userinfo").
	Unauthorized map[string]status.Outcome
	// Optional says that the operation succeeds even if its n-th call fails.
	Optional func(operation string, step int) bool
	// Nameless says that the operation may succeed, for an account without a name, though the answer to this path
	// is not understood.
	Nameless func(operation, path string) bool
	// Redirects says that a redirect is what this path is expected to answer.
	Redirects func(path string) bool
}

// canary is in the body of every failure and must show up nowhere.
const canary = "Zq9LEAKqZ"

// Run tests a connector.
func Run(t *testing.T, c Case) {
	t.Run("success", c.success)
	t.Run("callback", c.callbacks)
	for _, d := range failures() {
		t.Run(d.name, func(t *testing.T) { c.failure(t, d) })
	}
	t.Run("cancelled", c.cancelled)
	t.Run("slow", c.slow)
}

// operation is one method of a connector. run returns the access token, if the method returns one.
type operation struct {
	name string
	ack  bool // it returns no token: a 2xx of any shape may do
	run  func(context.Context) (access string, err error)
}

// fixture is one connector with one fake, ready for each of its operations.
type fixture struct {
	fake  *fake
	c     connectors.Connector
	grant connectors.Grant
	flow  connectors.Flow
	query url.Values
}

func (c Case) fixture(t *testing.T) *fixture {
	t.Helper()
	f := &fake{good: c.Good()}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	t.Cleanup(f.release)
	s := &fixture{fake: f, c: c.New(t, server.URL), flow: connectors.Flow{
		State: "state-of-this-flow-0123456789abcdef", Verifier: strings.Repeat("verifier-of-this-flow", 3), Locale: "en",
		CallbackURL: "http://127.0.0.1:1/connect/" + "x" + "/callback",
	}}
	switch conn := s.c.(type) {
	case connectors.Redirector:
		location, err := conn.AuthorizationURL(t.Context(), s.flow)
		if err != nil {
			t.Fatalf("authorize: %v", err)
		}
		s.query = c.Callback(location)
		if s.grant, err = conn.Exchange(t.Context(), s.flow, s.query); err != nil {
			t.Fatalf("exchange: %v", err)
		}
		if location, err = conn.AuthorizationURL(t.Context(), s.flow); err != nil { // of a second flow, whose code is not spent
			t.Fatalf("authorize again: %v", err)
		}
		s.query = c.Callback(location)
	case connectors.CredentialConnector:
		var err error
		if s.grant, err = conn.Authenticate(t.Context(), s.flow, c.Inputs); err != nil {
			t.Fatalf("authenticate: %v", err)
		}
	default:
		t.Fatal("a connector must be a Redirector or a CredentialConnector")
	}
	return s
}

func (s *fixture) operations(c Case) []operation {
	grant := s.grant
	grant.Inputs = maps.Clone(grant.Inputs)
	ops := []operation{{name: "refresh", run: func(ctx context.Context) (string, error) {
		token, err := s.c.Refresh(ctx, grant)
		return token.Access, err
	}}}
	ack := func(name string, run func(context.Context) error) {
		ops = append(ops, operation{name, true, func(ctx context.Context) (string, error) { return "", run(ctx) }})
	}
	switch conn := s.c.(type) {
	case connectors.Redirector:
		ops = append(ops, operation{name: "authorize", run: func(ctx context.Context) (string, error) { return conn.AuthorizationURL(ctx, s.flow) }})
		ops = append(ops, operation{name: "exchange", run: func(ctx context.Context) (string, error) {
			g, err := conn.Exchange(ctx, s.flow, s.query)
			return g.Access, err
		}})
	case connectors.CredentialConnector:
		ops = append(ops, operation{name: "authenticate", run: func(ctx context.Context) (string, error) {
			g, err := conn.Authenticate(ctx, s.flow, c.Inputs)
			return g.Access, err
		}})
	}
	if conn, ok := s.c.(connectors.Revoker); ok {
		ack("revoke", func(ctx context.Context) error { return conn.Revoke(ctx, grant) })
	}
	if conn, ok := s.c.(connectors.Prober); ok {
		ack("probe", func(ctx context.Context) error { return conn.Probe(ctx, grant) })
	}
	if conn, ok := s.c.(connectors.CallbackRegistrar); ok {
		ack("register-callback", func(ctx context.Context) error { return conn.RegisterCallback(ctx, s.flow.CallbackURL) })
	}
	if conn, ok := s.c.(connectors.WebhookReceiver); ok {
		ack("register-hook", func(ctx context.Context) error { return conn.RegisterWebhook(ctx, "https://example.com/hooks/x/y") })
		ack("remove-hook", func(ctx context.Context) error { return conn.RemoveWebhook(ctx, grant.Account.ID) })
	}
	return ops
}

func (c Case) success(t *testing.T) {
	s := c.fixture(t)
	info := s.c.Info()
	if info.Name == "" || info.Title == "" || info.Environment == "" || len(info.Color) != 7 || info.KeepAlive <= 0 {
		t.Errorf("info lacks something: %+v", info)
	}
	g := s.grant
	if g.Access == "" || g.Type == "" || g.Lifetime <= 0 || g.Lifetime > 400*24*time.Hour {
		t.Errorf("token of %d characters, type %q, lifetime %s", len(g.Access), g.Type, g.Lifetime)
	}
	for _, print := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(print, g) + fmt.Sprintf(print, g.Token); strings.Contains(text, g.Access) {
			t.Errorf("%s prints the token", print)
		}
	}
	for _, detail := range g.Account.Details {
		if slices.Contains(c.secrets(s), detail.Value) {
			t.Errorf("the detail %s is a secret", detail.Key)
		}
	}
	if keyed, ok := s.c.(connectors.CredentialConnector); ok {
		c.missingInputs(t, s, keyed)
	}
	for _, op := range s.operations(c) {
		inputs := maps.Clone(g.Inputs)
		ctx, calls := connectors.WithCalls(t.Context())
		access, err := op.run(ctx)
		if err != nil || access == "" && !op.ack {
			t.Errorf("%s: %v", op.name, err)
		}
		if last := calls.Last(); len(calls.All) > 0 && (!last.Sent || last.Outcome != status.OK || last.Status < 200 || last.Name == "" || last.Took <= 0) {
			t.Errorf("%s was recorded as %+v", op.name, last)
		}
		if !maps.Equal(inputs, g.Inputs) {
			t.Errorf("%s changed what the merchant typed", op.name)
		}
	}
	if checker, ok := s.c.(connectors.Checker); ok {
		c.check(t, s, checker)
	}
}

// check tests that Check asks the address that Refresh asks, and sends no secret and no grant.
func (c Case) check(t *testing.T, s *fixture, checker connectors.Checker) {
	s.fake.failFrom(1, s.fake.good.ServeHTTP)
	if _, err := s.c.Refresh(t.Context(), s.grant); connectors.OutcomeOf(err) == status.Temporary {
		t.Errorf("refresh: %v", err)
	}
	asked := s.fake.failedPaths()[0]
	s.fake.failFrom(1, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		sent := fmt.Sprint(r.Header) + r.URL.RawQuery + string(body)
		if err != nil || r.Header.Get("Authorization") != "" || strings.Contains(sent, "grant") || strings.Contains(sent, s.grant.Access) {
			t.Errorf("check sends more than it has to, %v", err)
		}
		for _, secret := range c.secrets(s) {
			if strings.Contains(sent, secret) {
				t.Error("check sends a secret")
			}
		}
		r.Body = io.NopCloser(strings.NewReader(string(body)))
		s.fake.good.ServeHTTP(w, r)
	})
	found, err := checker.Check(t.Context())
	if err != nil || found.Address == "" || found.Skew.Abs() > 2*time.Second || found.Took < time.Millisecond {
		t.Errorf("check: %+v, %v", found, err)
	}
	if paths := s.fake.failedPaths(); len(paths) != 1 || paths[0] != asked {
		t.Errorf("check asks %v, refreshing %s", paths, asked)
	}
}

// missingInputs leaves out each field in turn: that must be found before anything is sent.
func (c Case) missingInputs(t *testing.T, s *fixture, keyed connectors.CredentialConnector) {
	for _, f := range keyed.Fields() {
		inputs := maps.Clone(c.Inputs)
		inputs[f.Name] = ""
		before := s.fake.count()
		_, err := keyed.Authenticate(t.Context(), s.flow, inputs)
		var input *connectors.InputError
		if required := !f.Optional && len(f.Options) == 0; required &&
			(!errors.As(err, &input) || input.Field != f.Name || input.Code != connectors.InputMissing || s.fake.count() != before) {
			t.Errorf("without %s: %v", f.Name, err)
		}
		inputs[f.Name] = " " + c.Inputs[f.Name] + "\u200b\n"
		if _, err := keyed.Authenticate(t.Context(), s.flow, inputs); err != nil {
			t.Errorf("with spaces around %s: %v", f.Name, err)
		}
	}
}

// callbacks tests callbacks that carry no code. None of them may reach the provider.
func (c Case) callbacks(t *testing.T) {
	s := c.fixture(t)
	conn, ok := s.c.(connectors.Redirector)
	if !ok {
		return
	}
	if conn.Code(s.query) == "" || conn.Code(url.Values{"state": {"x"}}) != "" {
		t.Error("the code is not found, or found where there is none")
	}
	issuer := url.Values{}
	if s.query.Has("iss") {
		issuer.Set("iss", s.query.Get("iss"))
	}
	before := s.fake.count()
	for name, want := range map[string]status.Outcome{
		"": status.Temporary, "access_denied": status.AccessDenied, "server_error": status.Temporary, "unauthorized_client": status.ClientRejected,
	} {
		q := maps.Clone(issuer)
		if name != "" {
			q.Set("error", name)
			q.Set("error_description", canary)
		}
		g, err := conn.Exchange(t.Context(), s.flow, q)
		if connectors.OutcomeOf(err) != want || g.Access != "" {
			t.Errorf("callback with error %q: %v", name, err)
		}
		c.secretsHidden(t, s, err, nil)
	}
	if s.fake.count() != before {
		t.Error("a callback without an answer reached the provider")
	}
}

func (c Case) failure(t *testing.T, d failure) {
	names := []string{}
	for _, op := range c.fixture(t).operations(c) {
		names = append(names, op.name)
	}
	for i, name := range names {
		for step := 1; ; step++ {
			s := c.fixture(t)
			op := s.operations(c)[i]
			s.fake.failFrom(step, d.respond)
			ctx, calls := connectors.WithCalls(t.Context())
			access, err := op.run(ctx)
			paths := s.fake.failedPaths()
			if len(paths) == 0 {
				if err != nil && step > 1 {
					t.Errorf("%s: %v although no call failed", name, err)
				}
				break // the operation makes no further call
			}
			c.secretsHidden(t, s, err, calls)
			s.fake.redirectFollowed(t)
			switch {
			case d.redirect && c.Redirects != nil && c.Redirects(paths[0]):
			case c.Optional != nil && c.Optional(name, step):
				if err != nil {
					t.Errorf("%s, step %d (%s) is optional: %v", name, step, paths[0], err)
				}
			case op.ack && d.ack:
			case d.ack && err == nil && c.Nameless != nil && c.Nameless(name, paths[0]):
			case err == nil || access != "":
				t.Errorf("%s, step %d (%s): no error", name, step, paths[0])
			case d.outcome == unauthorized:
				want, ok := c.Unauthorized[name+" "+paths[0]]
				if !ok {
					want = c.Unauthorized[name]
				}
				if got := connectors.OutcomeOf(err); got != want {
					t.Errorf("%s, step %d (%s): outcome %s, want %s (%v)", name, step, paths[0], got, want, err)
				}
			case connectors.OutcomeOf(err) != d.outcome && !(op.ack && connectors.OutcomeOf(err) == status.Rejected && d.outcome == status.Temporary):
				t.Errorf("%s, step %d (%s): outcome %s, want %s (%v)", name, step, paths[0], connectors.OutcomeOf(err), d.outcome, err)
			}
			if !calls.Sent() {
				t.Errorf("%s, step %d: a call that reached the provider is not recorded as sent", name, step)
			}
		}
	}
}

// cancelled has the provider not answer, and tests that the connector stops waiting when its context ends, and records
// the call as sent.
func (c Case) cancelled(t *testing.T) {
	for i := range c.fixture(t).operations(c) {
		s := c.fixture(t)
		op := s.operations(c)[i]
		s.fake.failFrom(1, s.fake.hang)
		ctx, calls := connectors.WithCalls(t.Context())
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		begun := time.Now()
		access, err := op.run(ctx)
		cancel()
		if len(s.fake.failedPaths()) == 0 {
			continue // it makes no call
		}
		if took := time.Since(begun); took > 3*time.Second {
			t.Errorf("%s gave up after %s only", op.name, took)
		}
		if access != "" || connectors.OutcomeOf(err) != status.Temporary || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", op.name, err)
		}
		if last := calls.Last(); !last.Sent || last.Status != 0 || last.Outcome != status.Temporary {
			t.Errorf("%s was recorded as %+v", op.name, last)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := op.run(ended); connectors.OutcomeOf(err) != status.Temporary {
			t.Errorf("%s with a context that has ended: %v", op.name, err)
		}
	}
}

func (c Case) slow(t *testing.T) {
	for i := range c.fixture(t).operations(c) {
		s := c.fixture(t)
		op := s.operations(c)[i]
		s.fake.failFrom(1, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(30 * time.Millisecond)
			s.fake.good.ServeHTTP(w, r)
		})
		if _, err := op.run(t.Context()); err != nil {
			t.Errorf("%s with a slow provider: %v", op.name, err)
		}
	}
}

func (c Case) secrets(s *fixture) []string {
	out := slices.Clone(c.Secrets)
	if conn, ok := s.c.(connectors.CredentialConnector); ok {
		for _, f := range conn.Fields() {
			if f.Secret {
				out = append(out, c.Inputs[f.Name])
			}
		}
	}
	out = append(out, s.grant.Access, s.grant.Refresh, s.flow.State, s.flow.Verifier)
	if conn, ok := s.c.(connectors.Redirector); ok {
		out = append(out, conn.Code(s.query))
	}
	return slices.DeleteFunc(out, func(s string) bool { return s == "" })
}

// secretsHidden tests that neither the error nor the record repeats a body or a secret.
func (c Case) secretsHidden(t *testing.T, s *fixture, err error, calls *connectors.Calls) {
	t.Helper()
	text := fmt.Sprintf("%v %+v", err, err)
	if calls != nil {
		text += fmt.Sprintf(" %+v", calls.All)
	}
	for _, secret := range append(c.secrets(s), canary) {
		if strings.Contains(text, secret) {
			t.Errorf("a body or a secret shows: %s", text)
		}
	}
}

// fake is a provider that can be made to fail from the n-th call on.
type fake struct {
	good    http.Handler
	mu      sync.Mutex
	calls   int
	from    int
	bad     http.HandlerFunc
	paths   []string
	baited  bool
	waiting chan struct{}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.calls++
	bad := f.bad
	if f.calls < f.from {
		bad = nil
	}
	if bad != nil {
		f.paths = append(f.paths, r.URL.Path)
	}
	if r.URL.Path == redirectPath {
		f.baited = true
	}
	f.mu.Unlock()
	if bad == nil {
		f.good.ServeHTTP(w, r)
		return
	}
	bad(w, r)
}

// failFrom makes it fail from the n-th call from now on, counting from 1.
func (f *fake) failFrom(n int, bad http.HandlerFunc) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.from, f.bad, f.paths = 0, n, bad, nil
}

func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func (f *fake) failedPaths() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.paths)
}

func (f *fake) redirectFollowed(t *testing.T) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.baited {
		t.Error("a redirect was followed")
	}
}

// hang does not answer until the caller has gone or the test is over.
func (f *fake) hang(_ http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	if f.waiting == nil {
		f.waiting = make(chan struct{})
	}
	over := f.waiting
	f.mu.Unlock()
	select {
	case <-r.Context().Done():
	case <-over:
	}
}

func (f *fake) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting != nil {
		close(f.waiting)
		f.waiting = nil
	}
}
