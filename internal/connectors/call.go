package connectors

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	bodyLimit    = 1 << 20
	callLimit    = 20 * time.Second
	laterDefault = 30 * time.Second // a 429 that names no time
	laterMost    = 24 * time.Hour
)

// Trouble is an exchange that went wrong in a way that may pass: worth another try, nobody's turn to act. Reason is
// one of our own stable codes: unreachable, unknown-host, certificate, timeout, cancelled, cut-off, too-large,
// redirected, status, unreadable, no-token, no-account, no-answer, wrong-issuer, id-token, not-found.
type TemporaryError struct {
	Reason     string
	RetryAfter time.Duration // how long a 5xx asked to wait (RFC 9110 section 10.2.3), at most a day; 0 when it did not
	cause      error         // a context's error only: anything else may quote what the provider sent
}

func (t *TemporaryError) Error() string { return "trouble: " + t.Reason }

// Unwrap lets errors.Is see a context that was cancelled or ran out.
func (t *TemporaryError) Unwrap() error { return t.cause }

// Wire is the one way to every provider: it limits time and size, follows no redirect and records each exchange in
// the Calls of its context. Safe for use by many goroutines.
type Client struct {
	client *http.Client
	now    func() time.Time
}

// NewWire returns a wire over transport, with now as the clock for answers that carry no Date. Nil means our own
// transport and time.Now.
func NewClient(transport http.RoundTripper, now func() time.Time) *Client {
	if transport == nil {
		transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			ForceAttemptHTTP2:      true,
			TLSHandshakeTimeout:    10 * time.Second,
			MaxIdleConns:           256,
			MaxIdleConnsPerHost:    64, // the sweep keeps this many calls going to one provider
			IdleConnTimeout:        60 * time.Second,
			MaxResponseHeaderBytes: 64 << 10,
		}
	}
	if now == nil {
		now = time.Now
	}
	never := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{client: &http.Client{Transport: transport, CheckRedirect: never}, now: now}
}

// request is one call to a provider. At most one of json and form is set.
type request struct {
	name, method, address string
	user, password        string // HTTP Basic, as they go into the header
	bearer                string
	json                  map[string]any
	form                  url.Values
	reference             string // x-reference-id
}

// answer is what came back, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
	at     time.Time // when the answer was made by the provider's own clock; zero when it did not say
	now    time.Time // when it was read, by ours
	sent   []string  // what of ours must not be repeated in a log
}

// do makes one exchange and gives the answer to read, whose error is the outcome. A provider that asks to wait is
// *Later before read sees anything.
func (w *Client) do(ctx context.Context, q request, read func(answer) error) error {
	a, call, err := w.send(ctx, q)
	if err == nil {
		err = a.wait()
	}
	if err == nil {
		err = read(a)
	}
	call.Class = Class(err)
	switch call.Class {
	case "ok", "later", "trouble":
	default:
		call.Class = "refused"
	}
	if err != nil && a.status != 0 {
		call.Code = a.code()
	}
	call.record(ctx)
	return err
}

func (w *Client) send(ctx context.Context, q request) (a answer, call Call, err error) {
	begun := time.Now()
	call = Call{Name: q.name, Reference: q.reference}
	defer func() { call.Took = time.Since(begun) }()

	var held, wrote atomic.Bool
	limited, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	traced := httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		// The transport asks for a connection again only after one on which nothing was written.
		GetConn:      func(string) { held.Store(false); wrote.Store(false) },
		GotConn:      func(httptrace.GotConnInfo) { held.Store(true) },
		WroteHeaders: func() { wrote.Store(true) },
	})
	r, err := q.build(traced)
	if err != nil {
		return a, call, &TemporaryError{Reason: "unreachable"}
	}
	res, err := w.client.Do(r)
	if err != nil {
		// The writing goroutine may still be at work when a context ends: then having a connection counts as sent.
		call.Sent = wrote.Load() || held.Load() && limited.Err() != nil
		return a, call, trouble(limited, err, call.Sent)
	}
	defer res.Body.Close()
	call.Sent, call.Status = true, res.StatusCode
	a = answer{status: res.StatusCode, header: res.Header, sent: q.secrets()}
	a.body, err = io.ReadAll(io.LimitReader(res.Body, bodyLimit+1))
	a.now = w.now()
	a.at, _ = http.ParseTime(res.Header.Get("Date"))
	switch {
	case err != nil:
		return a, call, trouble(limited, err, true)
	case len(a.body) > bodyLimit:
		return a, call, &TemporaryError{Reason: "too-large"}
	}
	return a, call, nil
}

func (q request) build(ctx context.Context) (*http.Request, error) {
	var body io.Reader
	kind := ""
	switch {
	case q.json != nil:
		raw, err := json.Marshal(q.json)
		if err != nil {
			return nil, err
		}
		body, kind = bytes.NewReader(raw), "application/json"
	case q.form != nil:
		body, kind = strings.NewReader(q.form.Encode()), "application/x-www-form-urlencoded"
	}
	r, err := http.NewRequestWithContext(ctx, q.method, q.address, body)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "patchbay")
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if q.user != "" {
		r.SetBasicAuth(q.user, q.password)
	}
	if q.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+q.bearer)
	}
	if q.reference != "" {
		r.Header.Set("X-Reference-Id", q.reference)
	}
	return r, nil
}

// secrets lists what was sent that a provider might echo in an error code.
func (q request) secrets() []string {
	sent := []string{q.password, q.bearer}
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

// trouble names a failure of the transport. net/http's own errors quote addresses and broken answers, so none is kept.
func trouble(ctx context.Context, err error, sent bool) error {
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
	case errors.As(err, &dns):
		return &TemporaryError{Reason: "unknown-host"}
	case sent:
		return &TemporaryError{Reason: "cut-off"}
	}
	return &TemporaryError{Reason: "unreachable"}
}

// wait returns *Later when the provider asks for patience: 429. A 503 is trouble whatever it says of when it will end:
// an outage that calls itself maintenance is an outage.
func (a answer) wait() error {
	switch a.status {
	case http.StatusTooManyRequests:
		if after, named := a.retryAfter(); named {
			return &RateLimitedError{RetryAfter: min(max(after, time.Second), laterMost)}
		}
		return &RateLimitedError{RetryAfter: laterDefault}
	case http.StatusServiceUnavailable:
		return a.unusable()
	}
	return nil
}

func (a answer) retryAfter() (time.Duration, bool) {
	value := strings.TrimSpace(a.header.Get("Retry-After"))
	if n, err := strconv.ParseInt(value, 10, 32); err == nil && n >= 0 {
		return time.Duration(n) * time.Second, true
	}
	date, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if a.at.IsZero() {
		return date.Sub(a.now), true
	}
	return date.Sub(a.at), true
}

// unusable says what is wrong with an answer that is no refusal and holds nothing we asked for.
func (a answer) unusable() error {
	switch {
	case a.status >= 300 && a.status < 400:
		return &TemporaryError{Reason: "redirected"}
	case a.status >= 500:
		after, _ := a.retryAfter()
		return &TemporaryError{Reason: "status", RetryAfter: min(max(after, 0), laterMost)}
	case !a.ok():
		return &TemporaryError{Reason: "status"}
	case a.object() == nil:
		return &TemporaryError{Reason: "unreadable"}
	}
	return &TemporaryError{Reason: "no-token"}
}

func (a answer) ok() bool { return a.status >= 200 && a.status < 300 }

// code is the provider's own error code, for the record: only what looks like one and repeats nothing we sent.
func (a answer) code() string {
	o := a.object()
	code := o.label("error", "respCode", "error_code", "errorCode", "code")
	if inner := o.object("error"); inner != nil {
		code = inner.label("code", "type", "error")
	}
	if !regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`).MatchString(code) {
		return ""
	}
	for _, secret := range a.sent {
		if len(secret) >= 8 && strings.Contains(code, secret) || len(code) >= 12 && strings.Contains(secret, code) {
			return ""
		}
	}
	return code
}

// acknowledged reads the answer of a call that returns nothing: a 2xx of any shape but a web page, which some other
// machine sent.
func (a answer) acknowledged() error {
	if !a.ok() || bytes.HasPrefix(bytes.TrimSpace(a.body), []byte("<")) {
		return a.unusable()
	}
	return nil
}

// check sends what a refresh would send, to where it would, but without any credential or grant: it can only be
// refused, and whoever refuses answers. A 5xx, a redirect and no whole answer are *Trouble.
func (w *Client) check(ctx context.Context, q request) (CheckResult, error) {
	begun := w.now()
	a, call, err := w.send(ctx, q)
	found := CheckResult{Address: withoutQuery(q.address), Took: max(call.Took.Round(time.Millisecond), time.Millisecond)}
	if !a.at.IsZero() {
		// Date has whole seconds: half a second is its middle, and less than one is no skew.
		if skew := a.at.Add(500 * time.Millisecond).Sub(begun.Add(call.Took / 2)); skew.Abs() >= time.Second {
			found.Skew = skew.Round(time.Second)
		}
	}
	if err == nil && !a.ok() && (a.status < 400 || a.status >= 500) {
		err = a.unusable()
	}
	call.Class = Class(err)
	call.record(ctx)
	return found, err
}

// record adds an exchange to the Calls of its context, where somebody collects them.
func (c Call) record(ctx context.Context) {
	if calls, ok := ctx.Value(callsKey{}).(*Calls); ok {
		calls.All = append(calls.All, c)
	}
}

func withoutQuery(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	u.User, u.RawQuery, u.Fragment = nil, "", ""
	return u.String()
}

// origin is the scheme and host of an address.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	return u.Scheme + "://" + u.Host + "/"
}
