package connectors

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"patchbay/internal/status"
)

func exchange(t *testing.T, ctx context.Context, address string, q request) (Call, error) {
	t.Helper()
	ctx, calls := WithCalls(ctx)
	q.name, q.method, q.address = "exchange", http.MethodPost, address
	err := NewClient(nil, nil).do(ctx, q, func(r response) error {
		if r.ok() {
			return nil
		}
		return &RejectedError{Reason: "x"}
	})
	return calls.Last(), err
}

func TestSent(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	call, err := exchange(t, t.Context(), s.URL, request{})
	if err != nil || !call.Sent || call.Outcome != status.OK || call.Status != 200 {
		t.Errorf("answered: %+v, %v", call, err)
	}
	s.Close()
	call, err = exchange(t, t.Context(), s.URL, request{})
	if call.Sent || call.Outcome != status.Temporary || fmt.Sprint(err) != "trouble: unreachable" {
		t.Errorf("nobody listens: %+v, %v", call, err)
	}
	call, err = exchange(t, t.Context(), "http://no-such-host.invalid/", request{})
	if call.Sent || fmt.Sprint(err) != "trouble: unknown-host" {
		t.Errorf("no such host: %+v, %v", call, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	call, err = exchange(t, ended, "http://127.0.0.1:1/", request{})
	if call.Sent || !errors.Is(err, context.Canceled) {
		t.Errorf("ended before it began: %+v, %v", call, err)
	}
	tls := httptest.NewTLSServer(http.NotFoundHandler())
	tls.Config.ErrorLog = nil
	defer tls.Close()
	call, err = exchange(t, t.Context(), tls.URL, request{})
	if call.Sent || fmt.Sprint(err) != "trouble: certificate" {
		t.Errorf("an unknown certificate: %+v, %v", call, err)
	}
}

func TestRateLimited(t *testing.T) {
	now := time.Date(2026, 5, 7, 1, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status int
		after  string
		want   time.Duration // 0: not rate limited
	}{
		{429, "", defaultRetryAfter},
		{429, "7", 7 * time.Second},
		{429, "0", time.Second},
		{429, "-3", defaultRetryAfter},
		{429, "soon", defaultRetryAfter},
		{429, "999999999", maxRetryAfter},
		{429, "Thu, 07 May 2026 01:05:00 GMT", 5 * time.Minute},
		{429, "Thu, 07 May 2020 01:05:00 GMT", time.Second},
		{503, "2", 0},
		{503, "", 0},
		{500, "7", 0},
		{200, "7", 0},
	} {
		// Our own clock is an hour off; the provider's Date is what its date is measured by.
		r := response{status: c.status, date: now, receivedAt: now.Add(time.Hour), header: http.Header{"Retry-After": {c.after}}}
		var limited *RateLimitedError
		err := r.rateLimited()
		if errors.As(err, &limited) != (c.want > 0) || limited != nil && limited.RetryAfter != c.want {
			t.Errorf("%d %q: %v", c.status, c.after, err)
		}
	}
}

// TestA5xxIsTemporary: its Retry-After is kept, to plan the next try.
func TestA5xxIsTemporary(t *testing.T) {
	now := time.Date(2026, 5, 7, 1, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		status int
		after  string
		want   time.Duration
	}{
		{500, "", 0},
		{500, "7", 7 * time.Second},
		{503, "2", 2 * time.Second},
		{503, "7200", 2 * time.Hour},
		{503, "Thu, 07 May 2026 01:05:00 GMT", 5 * time.Minute},
		{503, "Thu, 07 May 2020 01:05:00 GMT", 0},
		{504, "999999999", maxRetryAfter},
		{503, "soon", 0},
	} {
		r := response{status: c.status, date: now, receivedAt: now.Add(time.Hour), header: http.Header{"Retry-After": {c.after}}}
		err := r.rateLimited()
		if err == nil {
			err = r.unexpected()
		}
		var temporary *TemporaryError
		if !errors.As(err, &temporary) || temporary.RetryAfter != c.want {
			t.Errorf("%d %q: %v, %+v", c.status, c.after, err, temporary)
		}
	}
}

func TestCodeForTheRecord(t *testing.T) {
	for body, want := range map[string]string{
		`{"error":"invalid_grant"}`:                   "invalid_grant",
		`{"error":{"code":"E-17","message":1}}`:       "E-17",
		`{"respCode":"401"}`:                          "401",
		`{"code":4711}`:                               "4711",
		`{"error":"The client is unknown"}`:           "",
		`{"error":"<script>"}`:                        "",
		`{"error":"` + strings.Repeat("a", 65) + `"}`: "",
		`{"error":"s3cret-of-ours"}`:                  "",
		`{"error":"code.s3cret-of-ours.spent"}`:       "",
		`{"error":"refresh-0123456789"}`:              "",
		`[]`:                                          "",
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(400)
			fmt.Fprint(w, body)
		}))
		call, _ := exchange(t, t.Context(), s.URL, request{
			password: "s3cret-of-ours", user: "u",
			form: url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"refresh-0123456789abcdef"}},
		})
		s.Close()
		if call.Code != want || call.Outcome != status.Rejected {
			t.Errorf("%s: %+v", body, call)
		}
	}
}

// TestLifetimeAgainstDate: a lifetime is counted by the provider's clock, however wrong ours is.
func TestLifetimeAgainstDate(t *testing.T) {
	now := time.Date(2026, 5, 7, 1, 0, 0, 0, time.UTC)
	wrong := now.Add(-90 * time.Minute)
	o := object{"expires_at": "2026-05-07T01:15:00Z"}
	if d := (response{date: now, receivedAt: wrong}).lifetime(o, "", time.Hour, "expires_at"); d != 15*time.Minute {
		t.Errorf("by Date: %s", d)
	}
	token := fmt.Sprintf("x.%s.y", "eyJpYXQiOjE3NzgxMTU2MDAsImV4cCI6MTc3ODExNjUwMH0") // iat 01:00:00, exp 01:15:00
	if d := (response{receivedAt: wrong}).lifetime(object{}, token, time.Hour, "expires_at"); d != 15*time.Minute {
		t.Errorf("by iat: %s", d)
	}
}

// TestATimeWithoutAZoneYieldsToTheToken: a provider in Phnom Penh that writes its own time would be seven hours off.
func TestATimeWithoutAZoneYieldsToTheToken(t *testing.T) {
	now := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	token := "e30." + base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"exp":%d}`, now.Add(15*time.Minute).Unix())) + ".x"
	for written, want := range map[string]time.Duration{
		"2026-11-22T10:15:00":       15 * time.Minute,
		"2026-11-22 10:15:00":       15 * time.Minute,
		"2026-11-22T03:20:00":       20 * time.Minute, // near enough to be meant
		"2026-11-22T10:15:00Z":      7*time.Hour + 15*time.Minute,
		"2026-11-22T10:15:00+07:00": 15 * time.Minute,
	} {
		if d := (response{date: now, receivedAt: now}).lifetime(object{"expires_at": written}, token, time.Hour, "expires_at"); d != want {
			t.Errorf("%s: %s, want %s", written, d, want)
		}
	}
	if d := (response{date: now, receivedAt: now}).lifetime(object{"expires_at": "2026-11-22T10:15:00"}, "opaque", time.Hour, "expires_at"); d != 7*time.Hour+15*time.Minute {
		t.Errorf("an opaque token: %s", d)
	}
}
