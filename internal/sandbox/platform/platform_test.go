package platform

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

const testSecret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="

// send sends a webhook that is signed with a secret at a time, and returns the status of the answer.
func send(t *testing.T, p *Platform, secret, id string, at time.Time, body string) int {
	t.Helper()
	signer, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := signer.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodPost, p.HookURL(), strings.NewReader(body))
	r.Header.Set(standardwebhooks.HeaderWebhookID, id)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(at.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Code
}

func TestOnlyPatchbaysWebhooksAreKeptEachOnce(t *testing.T) {
	p, err := New(Options{URL: "http://localhost/platform", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"type":"connection.connected","timestamp":"2026-11-30T10:00:00Z","data":{"id":"c1","sequence":1,"merchant":{"external_id":"corner-17"},"provider":"acme","health":"fine"}}`
	now := time.Now()
	if got := send(t, p, testSecret, "m1", now, body); got != http.StatusServiceUnavailable {
		t.Errorf("before the secret is known: %d", got)
	}
	if err := p.Trust(testSecret); err != nil {
		t.Fatal(err)
	}
	another := strings.Replace(testSecret, "MDEy", "NDU2", 1)
	for _, one := range []struct {
		what, secret, id string
		at               time.Time
		body             string
		want, kept       int
	}{
		{"signed with another secret", another, "m1", now, body, 403, 0},
		{"signed an hour ago", testSecret, "m1", now.Add(-time.Hour), body, 403, 0},
		{"signed for tomorrow", testSecret, "m1", now.Add(24 * time.Hour), body, 403, 0},
		{"no JSON", testSecret, "m1", now, "hello", 400, 0},
		{"as it should be", testSecret, "m1", now, body, 204, 1},
		{"the same once more", testSecret, "m1", now, body, 204, 1},
		{"of another merchant", testSecret, "m2", now, strings.Replace(body, "corner-17", "corner-23", 1), 204, 1},
		{"of no merchant", testSecret, "m3", now, `{"type":"incident.opened","data":{"provider":"acme"}}`, 204, 2},
	} {
		if got := send(t, p, one.secret, one.id, one.at, one.body); got != one.want {
			t.Errorf("%s: %d, want %d", one.what, got, one.want)
		}
		if got := len(p.hooks.of("corner-17")); got != one.kept {
			t.Errorf("%s: %d are kept, want %d", one.what, got, one.kept)
		}
	}
}

func TestOfATokenLittleIsShown(t *testing.T) {
	for token, want := range map[string]string{
		"": "…", "abc": "…", "abcdefgh": "ab…", "sk_live_0123456789abcdefghij": "sk_liv…",
	} {
		if got := beginning(token); got != want {
			t.Errorf("beginning(%q) is %q, want %q", token, got, want)
		}
	}
}

func TestAnotherSiteCannotPress(t *testing.T) {
	p, err := New(Options{URL: "http://localhost/platform", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/sign-in", "/sign-out", "/connect", "/confirm", "/token", "/disconnect"} {
		r := httptest.NewRequest(http.MethodPost, p.URL+path, nil)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != http.StatusForbidden {
			t.Errorf("POST %s from another site: %d", path, w.Code)
		}
	}
}
