package connectors

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"patchbay/internal/dial"
	"patchbay/internal/status"
)

const (
	maxBody           = 1 << 20 // bytes
	callTimeout       = 20 * time.Second
	defaultRetryAfter = 30 * time.Second // after a 429 that names no time
	maxRetryAfter     = 24 * time.Hour
)

// Call is what one exchange with a provider looked like, for timelines and metrics. It holds no body, no query and no
// header of ours.
type Call struct {
	Name      string // "exchange", "refresh", "revoke", "userinfo" …
	Status    int    // HTTP status, or 0 if no answer came
	Code      string // the provider's own error code, if it looks like one; "" if there is none
	Detail    string // for staff: why the answer was no success; never what the provider sent
	Reference string // the x-reference-id that we sent, where the provider wants one
	Sent      bool   // the request may have reached the provider
	Took      time.Duration
	Outcome   status.Outcome // OK, Rejected, RateLimited or Temporary
}

// Calls collects the exchanges made under a context. One goroutine at a time may use it.
type Calls struct{ All []Call }

type callsKey struct{}

// WithCalls returns a context under which every exchange with a provider is recorded in the Calls returned.
func WithCalls(ctx context.Context) (context.Context, *Calls) {
	c := &Calls{}
	return context.WithValue(ctx, callsKey{}, c), c
}

// Last returns the latest exchange, or a zero Call.
func (c *Calls) Last() Call {
	if c == nil || len(c.All) == 0 {
		return Call{}
	}
	return c.All[len(c.All)-1]
}

// Sent says whether any request may have reached the provider.
func (c *Calls) Sent() bool {
	for _, call := range c.All {
		if call.Sent {
			return true
		}
	}
	return false
}

// record adds the exchange to the Calls of the context, if it has any.
func (c Call) record(ctx context.Context) {
	if calls, ok := ctx.Value(callsKey{}).(*Calls); ok {
		calls.All = append(calls.All, c)
	}
}

// Client makes every call to every provider: it limits time and size, follows no redirect, calls no private network for an address
// that is not the operator's, and records each exchange in the Calls of its context. Any number of goroutines may use it.
type Client struct {
	any, public *http.Client // to any address; to public addresses only, and by no proxy
	proxy       func(*http.Request) (*url.URL, error)
	now         func() time.Time
}

// NewClient returns a client whose transports are wrapped by wrap, unless it is nil. now is the clock for answers without a Date header;
// for nil it uses time.Now.
func NewClient(wrap func(http.RoundTripper) http.RoundTripper, now func() time.Time) *Client {
	return newClient(http.ProxyFromEnvironment, wrap, now)
}

func newClient(proxy func(*http.Request) (*url.URL, error), wrap func(http.RoundTripper) http.RoundTripper, now func() time.Time) *Client {
	if now == nil {
		now = time.Now
	}
	client := func(transport http.RoundTripper) *http.Client {
		if wrap != nil {
			transport = wrap(transport)
		}
		return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Client{any: client(newTransport(proxy, nil)), public: client(newTransport(nil, dial.PublicOnly)), proxy: proxy, now: now}
}

// request is one call to a provider. At most one of json and form is set.
type request struct {
	name, method, address string
	source                source // who wrote the address
	user, password        string // HTTP Basic, as they go into the header
	bearer                string
	scheme                string // of Authorization, with bearer; "" is Bearer
	json                  map[string]any
	form                  url.Values
	reference             string            // x-reference-id
	header, headerValue   string            // of a key
	headers               map[string]string // what else goes with it
	hidden                []string          // what no log may repeat, besides
}

// do makes one exchange and calls read with the response. The error of read is the outcome. A 429 is *RateLimitedError
// and a 503 *TemporaryError, without a call to read.
func (c *Client) do(ctx context.Context, q request, read func(response) error) error {
	r, call, err := c.send(ctx, q)
	if err == nil {
		err = r.rateLimited()
	}
	if err == nil {
		err = read(r)
	}
	call.Outcome, call.Detail = OutcomeOf(err), ReasonOf(err)
	switch call.Outcome {
	case status.OK, status.RateLimited, status.Temporary:
	default:
		call.Outcome = status.Rejected
	}
	if err != nil && r.status != 0 {
		call.Code = r.errorCode()
	}
	call.record(ctx)
	return err
}

// check sends what a refresh would send, to where it would, but without any credential: it can only be refused, and a
// provider that refuses answers. It returns *TemporaryError for a 5xx, a redirect and an answer that is cut off.
func (c *Client) check(ctx context.Context, q request) (CheckResult, error) {
	begun := c.now()
	r, call, err := c.send(ctx, q)
	result := CheckResult{Address: dropQuery(q.address), Took: max(call.Took.Round(time.Millisecond), time.Millisecond)}
	if !r.date.IsZero() {
		// Date has whole seconds: half a second is its middle, and less than one is no skew.
		if skew := r.date.Add(500 * time.Millisecond).Sub(begun.Add(call.Took / 2)); skew.Abs() >= time.Second {
			result.Skew = skew.Round(time.Second)
		}
	}
	if err == nil && !r.ok() && (r.status < 400 || r.status >= 500) {
		err = r.unexpected()
	}
	call.Outcome, call.Detail = OutcomeOf(err), ReasonOf(err)
	call.record(ctx)
	return result, err
}

// send makes one exchange and reads the response to its end.
func (c *Client) send(ctx context.Context, q request) (r response, call Call, err error) {
	begun := time.Now()
	call = Call{Name: q.name, Reference: q.reference}
	defer func() { call.Took = time.Since(begun) }()

	var connected, wrote, inside atomic.Bool
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		// The transport asks for a second connection only if nothing was written on the first.
		GetConn:      func(string) { connected.Store(false); wrote.Store(false) },
		GotConn:      func(got httptrace.GotConnInfo) { connected.Store(true); inside.Store(isInside(got.Conn)) },
		WroteHeaders: func() { wrote.Store(true) },
	})
	req, err := q.build(traced)
	if err != nil {
		return r, call, &TemporaryError{Reason: "unreachable"}
	}
	client, proxied := c.transport(req, q.source)
	res, err := client.Do(req)
	if err != nil {
		// The writing goroutine may still be at work when a context ends: then having a connection counts as sent.
		call.Sent = wrote.Load() || connected.Load() && limited.Err() != nil
		return r, call, transportError(limited, err, call.Sent)
	}
	defer res.Body.Close()
	call.Sent, call.Status = true, res.StatusCode
	r = response{status: res.StatusCode, header: res.Header, secrets: q.secrets(), inside: inside.Load() && !proxied}
	r.body, err = io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	r.receivedAt = c.now()
	r.date, _ = http.ParseTime(res.Header.Get("Date"))
	switch {
	case err != nil:
		return r, call, transportError(limited, err, true)
	case len(r.body) > maxBody:
		return r, call, &UnreadableError{Reason: "too-large", Detail: r.statusText()}
	}
	return r, call, nil
}

func (q request) build(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	contentType := ""
	switch {
	case q.json != nil:
		raw, err := json.Marshal(q.json)
		if err != nil {
			return nil, err
		}
		body, contentType = bytes.NewReader(raw), "application/json"
	case q.form != nil:
		body, contentType = strings.NewReader(q.form.Encode()), "application/x-www-form-urlencoded"
	}
	r, err := http.NewRequestWithContext(ctx, q.method, q.address, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "patchbay")
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	if q.user != "" {
		r.SetBasicAuth(q.user, q.password)
	}
	if q.bearer != "" {
		r.Header.Set("Authorization", cmp.Or(q.scheme, "Bearer")+" "+q.bearer)
	}
	for name, value := range q.headers {
		r.Header.Set(name, value)
	}
	if q.header != "" {
		r.Header.Set(q.header, q.headerValue)
	}
	if q.reference != "" {
		r.Header.Set("X-Reference-Id", q.reference)
	}
	return r, nil
}

// secrets lists what is sent that a provider might echo in an error code.
func (q request) secrets() []string {
	sent := append([]string{q.password, q.bearer}, q.hidden...)
	for key, value := range q.json {
		if text, ok := value.(string); ok && key != "grant_type" {
			sent = append(sent, text)
		}
	}
	for key := range q.form {
		if key != "grant_type" {
			sent = append(sent, q.form.Get(key))
		}
	}
	return sent
}

// transportError names a failure of the transport. The errors of net/http quote addresses and broken answers, so none
// is kept.
func transportError(ctx context.Context, err error, sent bool) error {
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return &TemporaryError{Reason: "cancelled", cause: context.Canceled}
	case ctx.Err() != nil:
		return &TemporaryError{Reason: "timeout", cause: context.DeadlineExceeded}
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid):
		return &TemporaryError{Reason: "certificate"}
	case errors.Is(err, dial.ErrNotPublic):
		return &TemporaryError{Reason: "private-address"}
	case errors.As(err, &dns):
		return &TemporaryError{Reason: "unknown-host"}
	case sent:
		return &TemporaryError{Reason: ReasonCutOff}
	}
	return &TemporaryError{Reason: "unreachable"}
}
