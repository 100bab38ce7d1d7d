package connectors

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// tenants is a provider with an issuer for each tenant, {tenant}.id.example, as Auth0 and Okta have. Client calls it by way that is for
// addresses of an operator, or by the one that refuses private networks.
type tenants struct {
	mu        sync.Mutex
	elsewhere map[string]string // a tenant's token address, if its metadata names another than its own
	asked     []string          // way, method and address of each request
}

func (p *tenants) client() *Client {
	c := NewClient(nil, time.Now)
	c.any.Transport, c.public.Transport = way{p, "any"}, way{p, "public"}
	return c
}

type way struct {
	p    *tenants
	name string
}

func (w way) RoundTrip(r *http.Request) (*http.Response, error) {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	w.p.asked = append(w.p.asked, w.name+" "+r.URL.Host+r.URL.Path)
	base := "https://" + r.URL.Host
	answer := ""
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		token := base + "/token"
		if other := w.p.elsewhere[r.URL.Host]; other != "" {
			token = other
		}
		answer = fmt.Sprintf(`{"issuer":%q,"authorization_endpoint":"%[1]s/authorize","token_endpoint":%q,"userinfo_endpoint":"%[1]s/userinfo","revocation_endpoint":"%[1]s/revoke","scopes_supported":["openid"]}`, base, token)
	case "/token":
		answer = fmt.Sprintf(`{"access_token":"a-%s","refresh_token":"r","token_type":"Bearer","expires_in":60,"id_token":%q}`, r.URL.Host, unsigned(base))
	case "/userinfo":
		answer = fmt.Sprintf(`{"sub":"7","name":%q}`, r.URL.Host)
	case "/revoke":
		answer = `{}`
	}
	status := http.StatusOK
	if answer == "" {
		status = http.StatusNotFound
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(answer)), Request: r}, nil
}

func unsigned(issuer string) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"none"}`) + "." + part(fmt.Sprintf(`{"iss":%q,"sub":"7"}`, issuer)) + "."
}

func tenantsEntry(t *testing.T, p *tenants, keys string) *standard {
	t.Helper()
	all, faults := loadStandard(func(string) string { return "our-secret" }, []byte(`[{"name":"id","environment":"production","client_id":"c","client_secret_env":"S",`+keys+`}]`), nil, p.client())
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	return all[0].(standardRevoker).standard
}

func TestEachTenantHasItsIssuer(t *testing.T) {
	p := &tenants{}
	s := tenantsEntry(t, p, `"issuer":"https://{tenant}.id.example","inputs":{"tenant":{}}`)
	if home := s.Info().HomeURL; home != "" {
		t.Errorf("a page of all tenants: %s", home)
	}
	if _, err := s.Check(t.Context()); !errors.Is(err, ErrNotOffered) {
		t.Errorf("asked without a tenant: %v", err)
	}
	for _, tenant := range []string{"canal", "harbour", "canal"} {
		values, err := s.CheckInputs(map[string]string{"tenant": "https://" + tenant + ".id.example/login"})
		if err != nil || values["tenant"] != tenant {
			t.Fatalf("%v, %v", values, err)
		}
		f := Flow{State: "S", Verifier: strings.Repeat("v", 43), CallbackURL: "https://x.example/cb", Inputs: values}
		location, err := s.AuthorizationURL(t.Context(), f)
		if err != nil || !strings.HasPrefix(location, "https://"+tenant+".id.example/authorize?") {
			t.Errorf("%s is led to %s, %v", tenant, location, err)
		}
		g, err := s.Exchange(t.Context(), f, url.Values{"code": {"c"}, "iss": {"https://" + tenant + ".id.example"}})
		if err != nil || g.Access != "a-"+tenant+".id.example" || g.Account.ID != "7" || g.Account.Name != tenant+".id.example" {
			t.Errorf("%s: %+v, %v", tenant, g, err)
		}
		if _, err := s.Refresh(t.Context(), g); err != nil {
			t.Errorf("%s is refreshed: %v", tenant, err)
		}
		if err := (standardRevoker{s}).Revoke(t.Context(), g); err != nil {
			t.Errorf("%s is revoked: %v", tenant, err)
		}
		var temporary *TemporaryError
		if _, err := s.Exchange(t.Context(), f, url.Values{"code": {"c"}, "iss": {"https://other.id.example"}}); !errors.As(err, &temporary) || temporary.Reason != ReasonWrongIssuer {
			t.Errorf("%s: the answer of another tenant: %v", tenant, err)
		}
	}
	discovered := 0
	for _, asked := range p.asked {
		if !strings.HasPrefix(asked, "public ") {
			t.Errorf("called by way of an operator's addresses: %s", asked)
		}
		if strings.HasSuffix(asked, "/openid-configuration") {
			discovered++
		}
	}
	if discovered != 2 {
		t.Errorf("discovered %d times, want once for each tenant", discovered)
	}
}

// TestATenantsMetadataLeadsNowhereElse: whoever names a tenant may own it, and what it publishes.
func TestATenantsMetadataLeadsNowhereElse(t *testing.T) {
	for elsewhere, reached := range map[string]bool{
		"https://evil.example/token": false, "https://id.example.evil.example/token": false, "https://127.0.0.1/token": false, "https://canal.id.example:444/token": true,
		"https://login.id.example/token": true, "http://canal.id.example/token": false, "https://canal.id.example@evil.example/token": false,
	} {
		p := &tenants{elsewhere: map[string]string{"canal.id.example": elsewhere}}
		s := tenantsEntry(t, p, `"issuer":"https://{tenant}.id.example","inputs":{"tenant":{}}`)
		f := Flow{Inputs: map[string]string{"tenant": "canal"}}
		location, err := s.AuthorizationURL(t.Context(), f)
		_, exchange := s.Exchange(t.Context(), f, url.Values{"code": {"c"}})
		if (err == nil) != reached || (exchange == nil) != reached || !reached && location != "" {
			t.Errorf("%s: led to %q, %v; exchanged %v", elsewhere, location, err, exchange)
		}
		for _, asked := range p.asked {
			if strings.HasSuffix(asked, "/token") && !reached {
				t.Errorf("our secret went to %s", asked)
			}
		}
	}
	p := &tenants{elsewhere: map[string]string{"canal.id.example": "https://api.other.example/token"}}
	s := tenantsEntry(t, p, `"issuer":"https://{tenant}.id.example","token_url":"https://api.id.example/token","inputs":{"tenant":{}}`)
	if _, err := s.Exchange(t.Context(), Flow{Inputs: map[string]string{"tenant": "canal"}}, url.Values{"code": {"c"}}); err != nil {
		t.Errorf("an address that the entry names: %v", err)
	}
	// A path is the merchant's too, and the host the operator's.
	p = &tenants{elsewhere: map[string]string{"id.example": "https://evil.example/token"}}
	s = tenantsEntry(t, p, `"issuer":"https://id.example/{tenant}","inputs":{"tenant":{}}`)
	if location, err := s.AuthorizationURL(t.Context(), Flow{Inputs: map[string]string{"tenant": "canal"}}); err == nil {
		t.Errorf("by its path, led to %s", location)
	}
}

func TestTenantsAreForgottenBeforeTheyFillTheMemory(t *testing.T) {
	s := tenantsEntry(t, &tenants{}, `"issuer":"https://{tenant}.id.example","inputs":{"tenant":{}}`)
	for n := range maxIssuers + 50 {
		s.discovery(fmt.Sprintf("https://t%d.id.example", n))
	}
	if len(s.issuers) != maxIssuers {
		t.Errorf("%d are remembered", len(s.issuers))
	}
}
