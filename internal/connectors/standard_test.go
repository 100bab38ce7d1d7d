package connectors_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

func flow() connectors.Flow {
	return connectors.Flow{State: "S", Verifier: strings.Repeat("v", 43), CallbackURL: "https://x.example/connect/acme/callback"}
}

func TestStandardIdentity(t *testing.T) {
	now := time.Now().Unix()
	for name, c := range map[string]struct {
		claims string // with BASE and NONCE
		want   string // account, or an error
	}{
		"good":                   {`{"iss":"BASE","aud":"a c:me","sub":"7","nonce":"NONCE","exp":LATER,"name":"N"}`, "7"},
		"userinfo's name":        {`{"iss":"BASE","aud":["a c:me","x"],"sub":"merchant-7","nonce":"NONCE","exp":LATER}`, "merchant-7"},
		"another's name":         {`{"iss":"BASE","aud":"a c:me","sub":"8","nonce":"NONCE","exp":LATER}`, "8"},
		"wrong nonce":            {`{"iss":"BASE","aud":"a c:me","sub":"7","nonce":"x","exp":LATER}`, "not understood: id-token (id_token: nonce is not this attempt's)"},
		"no nonce":               {`{"iss":"BASE","aud":"a c:me","sub":"7","exp":LATER}`, "not understood: id-token (id_token: nonce is not this attempt's)"},
		"wrong audience":         {`{"iss":"BASE","aud":"x","sub":"7","nonce":"NONCE","exp":LATER}`, "not understood: id-token (id_token: aud is not our client)"},
		"wrong issuer":           {`{"iss":"https://evil.example","aud":"a c:me","sub":"7","nonce":"NONCE","exp":LATER}`, "not understood: id-token (id_token: iss is another issuer)"},
		"another party":          {`{"iss":"BASE","aud":["a c:me","x"],"azp":"x","sub":"7","nonce":"NONCE","exp":LATER}`, "not understood: id-token (id_token: azp is not our client)"},
		"expired":                {`{"iss":"BASE","aud":"a c:me","sub":"7","nonce":"NONCE","exp":1}`, "not understood: id-token (id_token: exp has passed)"},
		"another's access token": {`{"iss":"BASE","aud":"a c:me","sub":"7","nonce":"NONCE","exp":LATER,"at_hash":"AAAAAAAAAAAAAAAAAAAAAA"}`, "not understood: id-token (id_token: at_hash is not the access token's)"},
		"none":                   {``, "merchant-7"},
	} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.claims = func(base, nonce string) string {
				return strings.NewReplacer("BASE", base, "NONCE", nonce, "LATER", fmt.Sprint(now+300)).Replace(c.claims)
			}
			if c.claims == "" {
				i.claims = nil
			}
			g, err := finish(t, i.handler())
			got := g.Account.ID
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			if strings.HasSuffix(name, "name") && (g.Account.Name == "Acme Shop") != (name == "userinfo's name") {
				t.Errorf("named %s", g.Account.Name)
			}
		})
	}
	t.Run("userinfo out of the scopes' reach", func(t *testing.T) {
		i := newIssuer(t)
		i.claims = nil
		all := i.handler()
		g, err := finish(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/userinfo" {
				w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="openid"`)
				reply(w, 403, `{}`)
				return
			}
			all.ServeHTTP(w, r)
		}))
		if err != nil || g.Access == "" || g.Account.ID != "" {
			t.Errorf("%v, account %q: nobody is named, and access there is", err, g.Account.ID)
		}
	})
	t.Run("forged signature", func(t *testing.T) {
		honest, forger := newIssuer(t), newIssuer(t)
		forger.claims = honest.claims
		keys, rest := honest.handler(), forger.handler()
		_, err := finish(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				keys.ServeHTTP(w, r)
				return
			}
			rest.ServeHTTP(w, r)
		}))
		if err == nil || !strings.Contains(err.Error(), "id_token: its signature does not verify") {
			t.Errorf("%v", err)
		}
	})
	t.Run("keys cannot be had", func(t *testing.T) {
		i := newIssuer(t).handler()
		_, err := finish(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				reply(w, 500, `{"keys":[],"message":"secret"}`)
				return
			}
			i.ServeHTTP(w, r)
		}))
		if err == nil || err.Error() != "trouble: status (HTTP 500)" {
			t.Errorf("%v", err)
		}
	})
}

func finish(t *testing.T, h http.Handler) (connectors.Grant, error) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	c := connector(t, s.URL, "acme", byIssuer, acmeSettings).(connectors.Redirector)
	location, err := c.AuthorizationURL(t.Context(), flow())
	if err != nil {
		t.Fatal(err)
	}
	return c.Exchange(t.Context(), flow(), visit(location))
}

func TestStandardCallbackOfAnotherIssuer(t *testing.T) {
	s := httptest.NewServer(newIssuer(t).handler())
	t.Cleanup(s.Close)
	c := connector(t, s.URL, "acme", byIssuer, acmeSettings).(connectors.Redirector)
	location, err := c.AuthorizationURL(t.Context(), flow())
	if err != nil {
		t.Fatal(err)
	}
	for _, iss := range []string{"", "https://evil.example", s.URL + "/"} {
		q := visit(location)
		q.Set("iss", iss)
		ctx, calls := connectors.WithCalls(t.Context())
		if _, err := c.Exchange(ctx, flow(), q); err == nil || err.Error() != "trouble: wrong-issuer (iss of the callback)" || calls.Sent() {
			t.Errorf("iss %q: %v", iss, err)
		}
	}
	other := flow()
	other.Verifier = strings.Repeat("w", 43)
	if _, err := c.Exchange(t.Context(), other, visit(location)); connectors.OutcomeOf(err) != status.Rejected {
		t.Errorf("another flow's code: %v", err)
	}
	u, _ := url.Parse(location)
	if q := u.Query(); q.Get("tenant") != "1" || q.Get("code_challenge_method") != "S256" || q.Get("scope") != "openid orders.read" || q.Get("state") != "S" {
		t.Errorf("authorize address %s", location)
	}
}

// TestStandardDiscovery: a provider that is down at start is asked when it is needed, once for all callers that wait.
func TestStandardDiscovery(t *testing.T) {
	var down atomic.Bool
	var asked atomic.Int32
	good := newIssuer(t).handler()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/.well-known") {
			asked.Add(1)
		}
		if down.Load() {
			reply(w, 502, `<html>`)
			return
		}
		good.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	down.Store(true)
	c := connector(t, s.URL, "acme", byIssuer, acmeSettings).(connectors.Redirector)
	if asked.Load() != 0 {
		t.Error("asked at start")
	}
	if _, err := c.AuthorizationURL(t.Context(), flow()); err == nil || err.Error() != "trouble: status (HTTP 502)" {
		t.Errorf("while down: %v", err)
	}
	down.Store(false)
	asked.Store(0)
	done := make(chan error, 8)
	for range 8 {
		go func() {
			_, err := c.AuthorizationURL(context.Background(), flow())
			done <- err
		}()
	}
	for range 8 {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("still waiting for discovery after 30 s")
		}
	}
	if asked.Load() != 1 {
		t.Errorf("asked %d times", asked.Load())
	}
}

func TestStandardDiscoveryAnswers(t *testing.T) {
	const whole = `"authorization_endpoint":"BASE/authorize","token_endpoint":"BASE/token"`
	for name, c := range map[string]struct{ path, answer, want string }{
		"OpenID Connect":      {"/t/.well-known/openid-configuration", `{"issuer":"BASE/t",` + whole + `}`, ""},
		"RFC 8414":            {"/.well-known/oauth-authorization-server/t", `{"issuer":"BASE/t",` + whole + `}`, ""},
		"slash at the end":    {"/t/.well-known/openid-configuration", `{"issuer":"BASE/t/",` + whole + `}`, ""},
		"another issuer":      {"/t/.well-known/openid-configuration", `{"issuer":"https://evil.example",` + whole + `}`, "not understood: wrong-issuer (discovery: issuer is not the one that was asked)"},
		"no addresses":        {"/t/.well-known/openid-configuration", `{"issuer":"BASE/t"}`, "not understood: unreadable (discovery: authorization_endpoint is missing)"},
		"plain http":          {"/t/.well-known/openid-configuration", `{"issuer":"BASE/t","authorization_endpoint":"http://evil.example/a","token_endpoint":"BASE/token"}`, "not understood: unreadable (discovery: authorization_endpoint is no address that secrets may be sent to)"},
		"a script":            {"/t/.well-known/openid-configuration", `{"issuer":"BASE/t","authorization_endpoint":"javascript:1","token_endpoint":"BASE/token"}`, "not understood: unreadable (discovery: authorization_endpoint is no address that secrets may be sent to)"},
		"HTML":                {"/t/.well-known/openid-configuration", `<html>`, "not understood: unreadable (HTTP 200, application/json, not JSON)"},
		"nothing to be found": {"/x", `{}`, "not understood: status (HTTP 404)"},
	} {
		var base string
		base = serve(t, map[string]http.HandlerFunc{"GET " + c.path: func(w http.ResponseWriter, r *http.Request) {
			reply(w, 200, "%s", strings.ReplaceAll(c.answer, "BASE", base))
		}})
		entry := `[{"name":"acme","issuer":"BASE/t","client_id":"i","client_secret_env":"ACME_SECRET","environment":"production"}]`
		_, err := connector(t, base, "acme", entry, acmeSettings).(connectors.Redirector).AuthorizationURL(t.Context(), flow())
		if got := strings.TrimPrefix(fmt.Sprint(err), "<nil>"); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestStandardRefusals(t *testing.T) {
	for answer, want := range map[string]status.Outcome{
		`400 {"error":"invalid_grant"}`:                       status.Rejected,
		`200 {"error":"bad_refresh_token"}`:                   status.Rejected,
		`200 {"error":"invalid_grant","access_token":"T"}`:    status.Rejected,
		`403 {"error_description":"invalid_grant"}`:           status.Rejected,
		`401 {"error":"invalid_client"}`:                      status.ClientRejected,
		`400 {"error":"unauthorized_client"}`:                 status.ClientRejected,
		`400 {"error":"unsupported_grant_type"}`:              status.ClientRejected,
		`401 `:                                                status.Temporary,
		`400 `:                                                status.Temporary,
		`400 {"error":"invalid_request"}`:                     status.Temporary,
		`400 {"error":"temporarily_unavailable"}`:             status.Temporary,
		`500 {"error":"invalid_grant"}`:                       status.Temporary,
		`200 {"access_token":"T","scope":"a b"}`:              status.OK,
		`200 {"access_token":"T","expires_in":null,"x":[[]]}`: status.OK,
	} {
		status := 0
		fmt.Sscanf(answer, "%d", &status)
		base := serve(t, map[string]http.HandlerFunc{"POST /token": says(status, "%s", answer[4:])})
		_, err := connector(t, base, "acme", byAddress, acmeSettings).Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}})
		if got := connectors.OutcomeOf(err); got != want {
			t.Errorf("%s: %s, want %s", answer, got, want)
		}
	}
}

// TestStandardExchangeRefusals: our own request is at fault where no merchant's code can be.
func TestStandardExchangeRefusals(t *testing.T) {
	for answer, want := range map[string]status.Outcome{
		`400 {"error":"invalid_request"}`: status.ClientRejected,
		`400 {"error":"invalid_request","error_description":"AADSTS9002327: may only be redeemed via cross-origin requests"}`: status.ClientRejected,
		`400 {"error":"redirect_uri_mismatch"}`:                                           status.ClientRejected,
		`400 {"error":{"code":"invalid_request"}}`:                                        status.ClientRejected,
		`400 {"error":"invalid_request","error_description":"The code was already used"}`: status.Rejected,
		`400 {"error":"invalid_grant"}`:                                                   status.Rejected,
		`401 `:                                                                            status.Temporary,
		`503 {"error":"invalid_request"}`:                                                 status.Temporary,
	} {
		status := 0
		fmt.Sscanf(answer, "%d", &status)
		base := serve(t, map[string]http.HandlerFunc{"POST /token": says(status, "%s", answer[4:])})
		_, err := connector(t, base, "acme", byAddress, acmeSettings).(connectors.Redirector).Exchange(t.Context(), flow(), url.Values{"code": {"C"}})
		if got := connectors.OutcomeOf(err); got != want {
			t.Errorf("%s: %s, want %s", answer, got, want)
		}
	}
}

func TestStandardRevoke(t *testing.T) {
	var ended []string
	base := serve(t, map[string]http.HandlerFunc{
		"POST /revoke": func(w http.ResponseWriter, r *http.Request) {
			ended = append(ended, r.PostFormValue("token_type_hint")+" "+r.PostFormValue("token"))
		},
		"GET /.well-known/openid-configuration": func(w http.ResponseWriter, r *http.Request) {
			reply(w, 200, `{"issuer":"http://%[1]s","authorization_endpoint":"http://%[1]s/a","token_endpoint":"http://%[1]s/t"}`, r.Host)
		},
	})
	g := connectors.Grant{Token: connectors.Token{Access: "A", Refresh: "R"}}
	if err := connector(t, base, "acme", byAddress, acmeSettings).(connectors.Revoker).Revoke(t.Context(), g); err != nil {
		t.Error(err)
	}
	if fmt.Sprint(ended) != "[refresh_token R access_token A]" {
		t.Errorf("ended %v", ended)
	}
	if err := connector(t, base, "acme", byIssuer, acmeSettings).(connectors.Revoker).Revoke(t.Context(), g); !errors.Is(err, connectors.ErrNotOffered) {
		t.Errorf("without an address: %v", err)
	}
	entry := strings.Replace(byAddress, `"revoke_url":"BASE/revoke",`, "", 1)
	if _, ok := connector(t, base, "acme", entry, acmeSettings).(connectors.Revoker); ok {
		t.Error("a Revoker without an address")
	}
}

// TestStandardAsksForOpenID: openid is added where the provider speaks OpenID Connect, because without it no account is
// named.
func TestStandardAsksForOpenID(t *testing.T) {
	for name, c := range map[string]struct{ path, supported, want string }{
		"OpenID Connect":                 {"/.well-known/openid-configuration", `"scopes_supported":["openid","orders.read"],`, "openid orders.read"},
		"OpenID Connect, scopes unknown": {"/.well-known/openid-configuration", ``, "openid orders.read"},
		"without openid":                 {"/.well-known/openid-configuration", `"scopes_supported":["orders.read"],`, "orders.read"},
		"RFC 8414":                       {"/.well-known/oauth-authorization-server", ``, "orders.read"},
	} {
		var base string
		base = serve(t, map[string]http.HandlerFunc{"GET " + c.path: func(w http.ResponseWriter, r *http.Request) {
			reply(w, 200, `{"issuer":"%s",%s"authorization_endpoint":"%s/authorize","token_endpoint":"%s/token"}`, base, c.supported, base, base)
		}})
		entry := `[{"name":"acme","issuer":"BASE","client_id":"i","client_secret_env":"ACME_SECRET","environment":"production","scopes":["orders.read"]}]`
		location, err := connector(t, base, "acme", entry, acmeSettings).(connectors.Redirector).AuthorizationURL(t.Context(), flow())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if u, _ := url.Parse(location); u.Query().Get("scope") != c.want {
			t.Errorf("%s: asks for %q, want %q", name, u.Query().Get("scope"), c.want)
		}
	}
}
