package connectors

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
)

// counter is a server that counts its requests.
func counter(t *testing.T, answer string) (*httptest.Server, *atomic.Int32) {
	t.Helper()
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answer)
	}))
	t.Cleanup(s.Close)
	return s, &n
}

func TestOnlyAnOperatorsAddressIsCalledInside(t *testing.T) {
	inside, calls := counter(t, "{}")
	port := inside.Listener.Addr().String()[len("127.0.0.1"):]
	client := NewClient(nil, nil)
	for _, host := range []string{"127.0.0.1", "localhost", "LOCALHOST", "[::ffff:127.0.0.1]", "127.1"} {
		for from, reached := range map[source]bool{fromOperator: true, fromProvider: false, fromMerchant: false} {
			before := calls.Load()
			q := request{name: "exchange", method: http.MethodPost, address: "http://" + host + port, source: from, form: url.Values{"client_secret": {"s"}}}
			_, call, err := client.send(t.Context(), q)
			if got := calls.Load() > before; got != reached && host != "127.1" { // a resolver may not know that one
				t.Errorf("%s of %d: reached %t, want %t: %v", host, from, got, reached, err)
			}
			if !reached && (call.Sent || err == nil) || calls.Load() > before != (err == nil) {
				t.Errorf("%s of %d: sent %t, error %v", host, from, call.Sent, err)
			}
		}
	}
	_, _, err := client.send(t.Context(), request{method: http.MethodGet, address: inside.URL, source: fromMerchant})
	if fmt.Sprint(err) != "trouble: private-address" {
		t.Errorf("the reason: %v", err)
	}
}

func TestAProxyIsCalledForProvidersAndNeverForMerchants(t *testing.T) {
	proxy, calls := counter(t, "{}")
	by, _ := url.Parse(proxy.URL)
	client := newClient(http.ProxyURL(by), nil, nil)
	for _, c := range []struct {
		address string
		from    source
		by      bool
	}{
		{"http://id.invalid/token", fromOperator, true},
		{"http://127.0.0.1:1/token", fromOperator, true},
		{"http://id.invalid/token", fromProvider, true},
		{"http://8.8.8.8:1/token", fromProvider, true},
		{"http://10.0.0.1:1/token", fromProvider, false},
		{"http://[::1]:1/token", fromProvider, false},
		{"http://shop.invalid/token", fromMerchant, false},
		{"http://127.0.0.1:1/token", fromMerchant, false},
	} {
		before := calls.Load()
		r, _, err := client.send(t.Context(), request{method: http.MethodGet, address: c.address, source: c.from})
		if got := calls.Load() > before; got != c.by || r.inside || (err == nil) != c.by {
			t.Errorf("%s of %d: by the proxy %t, want %t; inside %t; %v", c.address, c.from, got, c.by, r.inside, err)
		}
	}
}

// An issuer on the Internet, which a proxy stands for here, may not name addresses of our network; one that is in it may.
func TestAddressesOfMetadata(t *testing.T) {
	victim, calls := counter(t, `{"access_token": "a"}`)
	const members = `{"issuer": %q, "authorization_endpoint": "http://id.invalid/a", "token_endpoint": %q, "userinfo_endpoint": %[2]q, "revocation_endpoint": %[2]q,
		"jwks_uri": %[2]q, "pushed_authorization_request_endpoint": %[2]q, "require_pushed_authorization_requests": %t}`
	issuerOf := func(t *testing.T, public, push bool) (string, *Client) {
		t.Helper()
		var issuer string
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, members, issuer, victim.URL+"/internal", push)
		}))
		t.Cleanup(s.Close)
		if issuer = s.URL; !public {
			return issuer, NewClient(nil, nil)
		}
		issuer = "http://id.invalid"
		by, _ := url.Parse(s.URL)
		return issuer, newClient(func(r *http.Request) (*url.URL, error) {
			if strings.HasSuffix(r.URL.Hostname(), ".invalid") {
				return by, nil
			}
			return nil, nil // NO_PROXY
		}, nil, nil)
	}
	for _, c := range []struct {
		what             string
		public, names    bool
		reachesTheVictim bool
	}{
		{"a public issuer", true, false, false},
		{"a public issuer, and the entry names the address", true, true, true},
		{"an issuer on this machine", false, false, true},
	} {
		for act, do := range map[string]func(ctx context.Context, s *standard) error{
			"exchange": func(ctx context.Context, s *standard) error {
				_, err := s.Exchange(ctx, Flow{}, url.Values{"code": {"c"}})
				return err
			},
			"refresh": func(ctx context.Context, s *standard) error {
				_, err := s.Refresh(ctx, Grant{Token: Token{Refresh: "r"}})
				return err
			},
			"revoke": func(ctx context.Context, s *standard) error {
				return standardRevoker{s}.Revoke(ctx, Grant{Token: Token{Refresh: "r"}})
			},
			"check": func(ctx context.Context, s *standard) error { _, err := s.Check(ctx); return err },
			"userinfo": func(ctx context.Context, s *standard) error {
				p, err := s.profile(ctx, nil)
				if err == nil {
					_, _, err = s.userinfo(ctx, p, "a")
				}
				return err
			},
			"keys": func(ctx context.Context, s *standard) error {
				p, err := s.profile(ctx, nil)
				if err == nil {
					_, err = (&keySet{keys: p.keys}).VerifySignature(ctx, "eyJhbGciOiJSUzI1NiJ9.e30.AAAA")
				}
				return err
			},
			"push": func(ctx context.Context, s *standard) error { _, err := s.AuthorizationURL(ctx, Flow{}); return err },
		} {
			issuer, client := issuerOf(t, c.public, act == "push")
			entry := Entry{Name: "id", Issuer: issuer, Environment: "sandbox", ClientID: "c"}
			if c.names {
				entry.TokenURL = victim.URL + "/internal"
			}
			s := entry.connector("s", nil, client).(standardRevoker).standard
			before := calls.Load()
			err := do(t.Context(), s)
			if got := calls.Load() > before; got != c.reachesTheVictim || !got && !strings.Contains(fmt.Sprint(err), "private-address") {
				t.Errorf("%s, %s: reached %t, want %t: %v", c.what, act, got, c.reachesTheVictim, err)
			}
		}
	}
}
