package sandbox

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// FaultKind is a way in which a provider can fail.
type FaultKind string

// Kinds of faults. NoFault ends the present one.
const (
	NoFault       FaultKind = ""
	Slow          FaultKind = "slow"           // waits Delay, then works
	Late          FaultKind = "late"           // works at once, answers after Delay
	Error500      FaultKind = "500"            // does nothing, 500 with an HTML body
	Unavailable   FaultKind = "503"            // does nothing, 503 with Retry-After
	TooMany       FaultKind = "429"            // does nothing, 429 with Retry-After; with Limit only beyond so many at once
	Forbidden     FaultKind = "403"            // does nothing, 403 with an HTML body, as a gateway in front would
	HTML          FaultKind = "html"           // does nothing, 200 with a web page
	Empty         FaultKind = "empty"          // does nothing, 200 with {}
	Lost          FaultKind = "lost"           // works (spends, rotates), then hangs up without an answer
	HangUp        FaultKind = "hang-up"        // hangs up before any work
	Redirect      FaultKind = "redirect"       // does nothing, 302 to the sandbox's front page
	Refused       FaultKind = "refused"        // answers as for a grant or code that has ended
	ClientRefused FaultKind = "client-refused" // answers as for a wrong client id or secret
	OddLifetimes  FaultKind = "odd-lifetimes"  // works, but words lifetimes as Lifetime
	Skewed        FaultKind = "skewed"         // works, with a clock that is wrong by Skew: Date, iat, exp and times in answers
)

// faultKinds is every kind that SetFault takes, but NoFault.
var faultKinds = []FaultKind{
	Slow, Late, Error500, Unavailable, TooMany, Forbidden, HTML, Empty, Lost, HangUp, Redirect, Refused,
	ClientRefused, OddLifetimes, Skewed,
}

// Fault is how a provider, or one of its endpoints, fails for a while.
type Fault struct {
	Kind        FaultKind     `json:"kind"`
	Endpoint    string        `json:"endpoint,omitempty"`    // empty: every endpoint that programs call, not the consent pages
	Count       int           `json:"count,omitempty"`       // how many calls it lasts; 0: until it is changed
	Probability float64       `json:"probability,omitempty"` // of each call being met; 0 means 1
	Delay       time.Duration `json:"delay,omitempty"`       // before the work; with Late, after it. Goes with every kind
	RetryAfter  time.Duration `json:"retry_after,omitempty"` // with 429 and 503, in whole seconds; 0 means 2 s, negative: no header
	Limit       int           `json:"limit,omitempty"`       // with 429: how many calls at once are fine
	Skew        time.Duration `json:"skew,omitempty"`        // with Skewed: provider's clock minus the true one
	Lifetime    any           `json:"lifetime,omitempty"`    // with OddLifetimes: the value that replaces every lifetime; nil means "soon"
}

// SetFault makes a provider fail, until its count is used up or another fault replaces it. A fault of one endpoint goes
// before the provider's own. NoFault ends the fault of that endpoint. It returns an error if provider, endpoint or kind is
// unknown.
func (s *Sandbox) SetFault(provider string, m Fault) error {
	if m.Kind != NoFault && !slices.Contains(faultKinds, m.Kind) {
		return fmt.Errorf("sandbox: no fault %q", m.Kind)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	found := false
	for _, e := range s.endpoints {
		found = found || e.provider == provider && (m.Endpoint == "" || m.Endpoint == e.name)
	}
	if !found {
		return fmt.Errorf("sandbox: no endpoint %q at %q", m.Endpoint, provider)
	}
	if m.Kind == NoFault {
		delete(s.faults, provider+" "+m.Endpoint)
	} else {
		s.faults[provider+" "+m.Endpoint] = &m
	}
	return nil
}

// ClearFaults ends every fault of a provider, or of all when it is empty.
func (s *Sandbox) ClearFaults(provider string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.faults {
		if provider == "" || strings.HasPrefix(key, provider+" ") {
			delete(s.faults, key)
		}
	}
}

// Faults returns the faults in force, by provider and endpoint.
func (s *Sandbox) Faults() map[string][]Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string][]Fault{}
	for key, m := range s.faults {
		provider, _, _ := strings.Cut(key, " ")
		all[provider] = append(all[provider], *m)
	}
	return all
}

// takeFault returns the fault that meets this call, counting it down.
func (s *Sandbox) takeFault(e *endpoint) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) == 0 {
		return Fault{}
	}
	key := e.provider + " " + e.name
	m := s.faults[key]
	if m == nil && !e.page {
		key = e.provider + " "
		m = s.faults[key]
	}
	if m == nil || m.Probability > 0 && rand.Float64() >= m.Probability {
		return Fault{}
	}
	if m.Limit > 0 && e.now.Load() <= int64(m.Limit) {
		return Fault{Delay: m.Delay}
	}
	met := *m
	if m.Count > 0 {
		if m.Count--; m.Count == 0 {
			delete(s.faults, key)
		}
	}
	return met
}

// endpoint is one address of a provider with its counters.
type endpoint struct {
	provider, name string
	page           bool
	calls          atomic.Int64
	now            atomic.Int64 // calls being answered
}

// Record is one call that was answered.
type Record struct {
	At       time.Time     `json:"at"`
	Provider string        `json:"provider"`
	Endpoint string        `json:"endpoint"`
	Status   int           `json:"status"` // 0: no answer was given
	Fault    FaultKind     `json:"mood,omitempty"`
	Took     time.Duration `json:"took"`
}

// Calls returns how many calls an endpoint was sent, or all endpoints of the provider if endpoint is empty.
func (s *Sandbox) Calls(provider, endpoint string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, e := range s.endpoints {
		if e.provider == provider && (endpoint == "" || endpoint == e.name) {
			n += int(e.calls.Load())
		}
	}
	return n
}

// Endpoints returns the names of every provider's endpoints, sorted.
func (s *Sandbox) Endpoints() map[string][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string][]string{}
	for _, e := range s.endpoints {
		all[e.provider] = append(all[e.provider], e.name)
	}
	for _, names := range all {
		slices.Sort(names)
	}
	return all
}

// Records returns the latest calls, newest last, at most 200.
func (s *Sandbox) Records() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Record{}, s.records...)
}

// ResetCounters forgets counters, records, double spends and deliveries; grants, faults and secrets stay.
func (s *Sandbox) ResetCounters() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.endpoints {
		e.calls.Store(0)
	}
	s.records, s.spends, s.deliveries = nil, nil, nil
}

// call is one request on its way through a provider's endpoint.
type call struct {
	s      *Sandbox
	w      http.ResponseWriter
	r      *http.Request
	now    time.Time // by the provider's clock, which may be skewed
	fault  Fault
	status int
	spent  *refreshToken // the rotating refresh token that this call spent
}

// serve routes a pattern to an endpoint and puts faults and counters in front of it. page marks what browsers open.
func (s *Sandbox) serve(pattern, provider, name string, page bool, h func(*call)) {
	key := provider + " " + name
	e := s.endpoints[key]
	if e == nil {
		e = &endpoint{provider: provider, name: name, page: page}
		s.endpoints[key] = e
	}
	s.mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		e.calls.Add(1)
		e.now.Add(1)
		defer e.now.Add(-1)
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		c := &call{s: s, w: w, r: r, fault: s.takeFault(e), now: s.o.Now()}
		answered := c.run(h)
		s.mu.Lock()
		if c.spent != nil && (!answered || r.Context().Err() != nil) {
			c.spent.Unanswered = true
		}
		if !answered {
			c.status = 0
		}
		if len(s.records) == 200 {
			copy(s.records, s.records[1:])
			s.records = s.records[:199]
		}
		s.records = append(s.records, Record{c.now, provider, name, c.status, c.fault.Kind, time.Since(began)})
		s.mu.Unlock()
		if !answered {
			panic(http.ErrAbortHandler) // net/http's own way to hang up
		}
	})
}

// run answers the call with its fault and says whether there is an answer.
func (c *call) run(h func(*call)) (answered bool) {
	m := c.fault
	if m.Delay > 0 && m.Kind != Late {
		c.wait(m.Delay)
		c.now = c.s.o.Now()
	}
	switch m.Kind {
	case Error500:
		c.html(http.StatusInternalServerError, "<h1>Internal Server Error</h1>")
	case Forbidden:
		c.html(http.StatusForbidden, "<h1>Forbidden</h1>")
	case HTML:
		c.html(http.StatusOK, "<h1>We will be back soon</h1>")
	case Unavailable:
		c.retryAfter()
		c.html(http.StatusServiceUnavailable, "<h1>Service Unavailable</h1>")
	case TooMany:
		c.retryAfter()
		c.json(http.StatusTooManyRequests, map[string]string{"message": "Too Many Attempts."})
	case Empty:
		c.json(http.StatusOK, struct{}{})
	case Redirect:
		c.redirect(http.StatusFound, c.s.o.BaseURL+"/")
	case HangUp:
		return false
	case Lost:
		c.w = &discard{header: http.Header{}}
		h(c)
		return false
	case Late:
		held := &discard{header: http.Header{}, keep: true}
		w := c.w
		c.w = held
		h(c)
		c.wait(m.Delay)
		for k, v := range held.header {
			w.Header()[k] = v
		}
		w.WriteHeader(cmp.Or(held.status, http.StatusOK))
		w.Write(held.body)
	case Skewed:
		c.now = c.now.Add(m.Skew)
		c.w.Header().Set("Date", c.now.UTC().Format(http.TimeFormat))
		h(c)
	default:
		h(c)
	}
	return true
}

func (c *call) wait(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.s.stop:
	}
}

func (c *call) retryAfter() {
	if after := cmp.Or(c.fault.RetryAfter, 2*time.Second); after > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int((after+time.Second-1)/time.Second)))
	}
}

// refused says whether this call is answered as if its code or grant had ended.
func (c *call) refused() bool { return c.fault.Kind == Refused }

// clientRefused says whether this call is answered as if the client were unknown.
func (c *call) clientRefused() bool { return c.fault.Kind == ClientRefused }

// lifetime returns a lifetime as the answer holds it, in seconds or as worded, or what the fault OddLifetimes makes of it.
func (c *call) lifetime(value any) any {
	if c.fault.Kind != OddLifetimes {
		return value
	}
	if c.fault.Lifetime == nil {
		return "soon"
	}
	return c.fault.Lifetime
}

func (c *call) json(status int, body any) {
	c.status = status
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
	json.NewEncoder(c.w).Encode(body)
}

func (c *call) html(status int, body string) {
	c.status = status
	c.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	c.w.WriteHeader(status)
	io.WriteString(c.w, "<!doctype html><html lang=\"en\"><title>Sandbox</title><main>"+body+"</main></html>")
}

func (c *call) redirect(status int, location string) {
	c.status = status
	c.w.Header().Set("Location", location)
	c.w.Header().Set("Cache-Control", "no-store")
	c.w.WriteHeader(status)
}

// discard is a ResponseWriter for an answer that is not sent, or sent later.
type discard struct {
	header http.Header
	keep   bool
	status int
	body   []byte
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(status int) {
	if d.status == 0 {
		d.status = status
	}
}

func (d *discard) Write(b []byte) (int, error) {
	if d.keep {
		d.body = append(d.body, b...)
	}
	return len(b), nil
}
