package sso_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/sso"
	"patchbay/internal/sso/ssotest"
)

const callback = "https://connect.example/login/sso/callback"

func provider(issuer string) *sso.Provider {
	return sso.New(sso.Options{
		Issuer: issuer, ClientID: ssotest.ClientID, ClientSecret: ssotest.ClientSecret, Callback: callback,
		RoleClaim: "groups", Admin: []string{"admins", "root"}, Support: []string{"helpdesk"}, MerchantClaim: "merchant",
	})
}

// begin goes to the issuer and returns what the browser brings back.
func begin(t *testing.T, p *sso.Provider) (sso.Attempt, url.Values) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	address, a, err := p.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	to, err := res.Location()
	if err != nil {
		t.Fatalf("%d: %v", res.StatusCode, err)
	}
	if back := strings.TrimSuffix(to.String(), "?"+to.RawQuery); back != callback {
		t.Fatalf("back to %s", back)
	}
	return a, to.Query()
}

func finish(t *testing.T, p *sso.Provider, a sso.Attempt, answer url.Values) (sso.Person, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return p.Finish(ctx, a, answer)
}

var dara = map[string]any{"sub": "42", "name": "Dara Sok", "email": "dara@platform.example", "groups": []string{"staff", "admins"}, "merchant": "m-1"}

func TestClaimsSayWhoSomebodyIs(t *testing.T) {
	for what, c := range map[string]struct {
		claims, userinfo map[string]any
		want             sso.Person
	}{
		"groups as an array": {dara, nil, sso.Person{Subject: "42", Name: "Dara Sok", Email: "dara@platform.example", Admin: true, Merchants: []string{"m-1"}}},
		"a role as a string": {map[string]any{"sub": "1", "name": "A", "groups": "helpdesk"}, nil, sso.Person{Subject: "1", Name: "A", Support: true}},
		"both roles":         {map[string]any{"sub": "1", "name": "A", "groups": []string{"helpdesk", "root"}}, nil, sso.Person{Subject: "1", Name: "A", Admin: true, Support: true}},
		"no role":            {map[string]any{"sub": "1", "name": "A"}, nil, sso.Person{Subject: "1", Name: "A"}},
		"roles in other case, with blanks, a part, or nested": {
			map[string]any{"sub": "1", "name": "A", "groups": []any{"Admins", " admins", "admins,root", "adm", []any{"admins"}, map[string]any{"admins": true}, true, nil}},
			nil,
			sso.Person{Subject: "1", Name: "A"},
		},
		"a role as an object":  {map[string]any{"sub": "1", "name": "A", "groups": map[string]any{"admins": true}}, nil, sso.Person{Subject: "1", Name: "A"}},
		"a merchant's number":  {map[string]any{"sub": "1", "name": "A", "merchant": json.Number("9007199254740993")}, nil, sso.Person{Subject: "1", Name: "A", Merchants: []string{"9007199254740993"}}},
		"one merchant twice":   {map[string]any{"sub": "1", "name": "A", "merchant": []string{"m", "m"}}, nil, sso.Person{Subject: "1", Name: "A", Merchants: []string{"m"}}},
		"two merchants":        {map[string]any{"sub": "1", "name": "A", "merchant": []string{"n", "m", ""}}, nil, sso.Person{Subject: "1", Name: "A", Merchants: []string{"m", "n"}}},
		"an unverified e-mail": {map[string]any{"sub": "1", "name": "A", "email": "a@b.example", "email_verified": false}, nil, sso.Person{Subject: "1", Name: "A"}},
		"a verified e-mail":    {map[string]any{"sub": "1", "name": "A", "email": "a@b.example", "email_verified": "true"}, nil, sso.Person{Subject: "1", Name: "A", Email: "a@b.example"}},
		"only a username":      {map[string]any{"sub": "1", "preferred_username": "dara"}, nil, sso.Person{Subject: "1", Name: "dara"}},
		"claims at userinfo": {
			map[string]any{"sub": "1"},
			map[string]any{"name": "Dara", "groups": []string{"helpdesk"}, "merchant": "m"},
			sso.Person{Subject: "1", Name: "Dara", Support: true, Merchants: []string{"m"}},
		},
		"userinfo that contradicts the ID token": {
			map[string]any{"sub": "1", "groups": []string{"helpdesk"}},
			map[string]any{"groups": []string{"admins"}, "iss": "https://other.example"},
			sso.Person{Subject: "1", Support: true},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			issuer := ssotest.New(t, nil)
			issuer.Person(c.claims)
			issuer.Userinfo(c.userinfo)
			p := provider(issuer.URL)
			a, answer := begin(t, p)
			got, err := finish(t, p, a, answer)
			c.want.Issuer = issuer.URL
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v %v, want %+v", got, err, c.want)
			}
		})
	}
}

func TestWhatIsAskedFor(t *testing.T) {
	issuer := ssotest.New(t, nil)
	issuer.Publish("scopes_supported", []string{"openid", "email", "groups", "offline_access"})
	address, a, err := provider(issuer.URL + "/").Begin(t.Context()) // a final slash makes no other issuer
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"response_type": "code", "client_id": ssotest.ClientID, "redirect_uri": callback, "scope": "openid email groups", "state": a.State, "nonce": a.Nonce,
		"code_challenge_method": "S256",
	} {
		if got := u.Query().Get(name); got != want || got == "" {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if strings.Contains(address, a.Verifier) || strings.Contains(address, "secret") {
		t.Errorf("a secret is in %s", address)
	}
}

func TestAnswersThatAreNotBelieved(t *testing.T) {
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	claim := func(name string, value any) func(*ssotest.Issuer) {
		return func(i *ssotest.Issuer) { i.Tamper(func(_, claims map[string]any) { claims[name] = value }) }
	}
	alg := func(name string, signer func([]byte) []byte) func(*ssotest.Issuer) {
		return func(i *ssotest.Issuer) {
			i.Tamper(func(header, _ map[string]any) { header["alg"] = name })
			i.SignWith(signer)
		}
	}
	nothing := func([]byte) []byte { return nil }
	for what, c := range map[string]struct {
		issuer func(*ssotest.Issuer) // before the browser comes back
		answer func(*sso.Attempt, url.Values)
		want   error
	}{
		"no state":                    {nil, func(_ *sso.Attempt, v url.Values) { v.Del("state") }, sso.ErrStale},
		"another state":               {nil, func(_ *sso.Attempt, v url.Values) { v.Set("state", "x") }, sso.ErrStale},
		"two states":                  {nil, func(_ *sso.Attempt, v url.Values) { v.Add("state", "x") }, sso.ErrStale},
		"no attempt":                  {nil, func(a *sso.Attempt, v url.Values) { *a = sso.Attempt{}; v.Set("state", "") }, sso.ErrStale},
		"another issuer's iss":        {nil, func(_ *sso.Attempt, v url.Values) { v.Set("iss", "https://other.example") }, sso.ErrInvalid},
		"no iss where it is promised": {nil, func(_ *sso.Attempt, v url.Values) { v.Del("iss") }, sso.ErrInvalid},
		"two iss":                     {nil, func(_ *sso.Attempt, v url.Values) { v.Add("iss", "https://other.example") }, sso.ErrInvalid},
		"no code":                     {nil, func(_ *sso.Attempt, v url.Values) { v.Del("code") }, sso.ErrInvalid},
		"two codes":                   {nil, func(_ *sso.Attempt, v url.Values) { v.Add("code", "x") }, sso.ErrInvalid},
		"a made-up code":              {nil, func(_ *sso.Attempt, v url.Values) { v.Set("code", "x") }, sso.ErrStale},
		"another attempt's verifier":  {nil, func(a *sso.Attempt, _ url.Values) { a.Verifier += "x" }, sso.ErrStale},
		"the person said no":          {nil, func(_ *sso.Attempt, v url.Values) { v.Del("code"); v.Set("error", "access_denied") }, sso.ErrDenied},
		"the provider is in trouble":  {nil, func(_ *sso.Attempt, v url.Values) { v.Set("error", "temporarily_unavailable") }, sso.ErrAway},
		"our request is refused":      {nil, func(_ *sso.Attempt, v url.Values) { v.Set("error", "invalid_scope") }, sso.ErrInvalid},
		"an unknown error":            {nil, func(_ *sso.Attempt, v url.Values) { v.Set("error", "<b>oh</b>") }, sso.ErrInvalid},
		"an error without a state":    {nil, func(_ *sso.Attempt, v url.Values) { v.Del("state"); v.Set("error", "access_denied") }, sso.ErrStale},

		"another attempt's nonce": {claim("nonce", "x"), nil, sso.ErrInvalid},
		"no nonce":                {claim("nonce", ""), nil, sso.ErrInvalid},
		"another audience":        {claim("aud", "other"), nil, sso.ErrInvalid},
		"an audience more, and nothing of whom it is for": {claim("aud", []string{ssotest.ClientID, "other"}), nil, sso.ErrInvalid},
		"it is for another client":                        {claim("azp", "other"), nil, sso.ErrInvalid},
		"azp is no text":                                  {claim("azp", 1), nil, sso.ErrInvalid},
		"another issuer":                                  {claim("iss", "https://other.example"), nil, sso.ErrInvalid},
		"it has expired":                                  {claim("exp", time.Now().Add(-time.Minute).Unix()), nil, sso.ErrInvalid},
		"it does not expire":                              {claim("exp", nil), nil, sso.ErrInvalid},
		"it is not valid yet":                             {claim("nbf", time.Now().Add(time.Hour).Unix()), nil, sso.ErrInvalid},
		"another access token":                            {claim("at_hash", "AAAAAAAAAAAAAAAAAAAAAA"), nil, sso.ErrInvalid},
		"no subject":                                      {claim("sub", ""), nil, sso.ErrInvalid},
		"a subject that is a number":                      {claim("sub", 42), nil, sso.ErrInvalid},
		"a long subject":                                  {claim("sub", strings.Repeat("x", 256)), nil, sso.ErrInvalid},
		"a subject with NUL":                              {claim("sub", "4\x002"), nil, sso.ErrInvalid},

		"alg none":                         {alg("none", nothing), nil, sso.ErrInvalid},
		"alg NoNe":                         {alg("NoNe", nothing), nil, sso.ErrInvalid},
		"no signature":                     {alg("RS256", nothing), nil, sso.ErrInvalid},
		"HS256 with the client secret":     {alg("HS256", ssotest.HMAC([]byte(ssotest.ClientSecret))), nil, sso.ErrInvalid},
		"HS256 with the public key":        {func(i *ssotest.Issuer) { alg("HS256", ssotest.HMAC(i.Modulus()))(i) }, nil, sso.ErrInvalid},
		"an algorithm it does not publish": {alg("RS512", nothing), nil, sso.ErrInvalid},
		"another key": {func(i *ssotest.Issuer) {
			i.SignWith(func([]byte) []byte { return other.N.Bytes()[:256] })
		}, nil, sso.ErrInvalid},

		"userinfo is of somebody else": {func(i *ssotest.Issuer) {
			i.Person(map[string]any{"sub": "42"})
			i.Userinfo(map[string]any{"sub": "43", "groups": []string{"admins"}})
		}, nil, sso.ErrInvalid},
		"no ID token":                      {answers("/token", http.StatusOK, `{"access_token":"x","token_type":"Bearer"}`), nil, sso.ErrInvalid},
		"the token endpoint has no JSON":   {answers("/token", http.StatusOK, `<html>`), nil, sso.ErrInvalid},
		"the client secret is wrong":       {answers("/token", http.StatusUnauthorized, `{"error":"invalid_client"}`), nil, sso.ErrInvalid},
		"the token endpoint is in trouble": {answers("/token", http.StatusBadGateway, `oh`), nil, sso.ErrAway},
		"the token endpoint is too busy":   {answers("/token", http.StatusTooManyRequests, `{}`), nil, sso.ErrAway},
		"the token's answer is huge":       {answers("/token", http.StatusOK, `{"access_token":"`+strings.Repeat("x", 300<<10)+`"}`), nil, sso.ErrInvalid},
		"the keys are huge":                {answers("/keys", http.StatusOK, `{"keys":[],"x":"`+strings.Repeat("x", 300<<10)+`"}`), nil, sso.ErrInvalid},
		"a key takes long to verify with": {
			answers("/keys", http.StatusOK, `{"keys":[{"kty":"RSA","kid":"1","e":"AQAB","n":"`+base64.RawURLEncoding.EncodeToString(make([]byte, 2000))+`"}]}`), nil, sso.ErrInvalid,
		},
		"the keys are away":              {answers("/keys", http.StatusServiceUnavailable, `{}`), nil, sso.ErrAway},
		"the keys are none":              {answers("/keys", http.StatusOK, `[]`), nil, sso.ErrInvalid},
		"the token endpoint redirects":   {redirects("/token"), nil, sso.ErrInvalid},
		"the keys are somewhere else":    {redirects("/keys"), nil, sso.ErrInvalid},
		"the token endpoint hangs up":    {hangs("/token"), nil, sso.ErrAway},
		"the keys' connection is closed": {hangs("/keys"), nil, sso.ErrAway},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			issuer := ssotest.New(t, nil)
			issuer.Person(dara)
			issuer.Userinfo(map[string]any{})
			p := provider(issuer.URL)
			a, answer := begin(t, p)
			if c.issuer != nil {
				c.issuer(issuer)
			}
			if c.answer != nil {
				c.answer(&a, answer)
			}
			who, err := finish(t, p, a, answer)
			if !errors.Is(err, c.want) || !reflect.DeepEqual(who, sso.Person{}) {
				t.Errorf("%+v %v, want %v", who, err, c.want)
			}
			for _, received := range []string{ssotest.ClientSecret, ssotest.AccessToken, "<b>", a.State, answer.Get("code")} {
				if err != nil && len(received) > 2 && strings.Contains(err.Error(), received) {
					t.Errorf("the error repeats %q: %v", received, err)
				}
			}
		})
	}
}

func answers(path string, status int, body string) func(*ssotest.Issuer) {
	return func(i *ssotest.Issuer) {
		i.Answer(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		})
	}
}

func redirects(path string) func(*ssotest.Issuer) {
	return func(i *ssotest.Issuer) {
		i.Answer(path, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		})
	}
}

func hangs(path string) func(*ssotest.Issuer) {
	return func(i *ssotest.Issuer) {
		i.Answer(path, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}
}

func TestACodeIsSpentOnce(t *testing.T) {
	issuer := ssotest.New(t, nil)
	issuer.Person(dara)
	p := provider(issuer.URL)
	a, answer := begin(t, p)
	if _, err := finish(t, p, a, answer); err != nil {
		t.Fatal(err)
	}
	if _, err := finish(t, p, a, answer); !errors.Is(err, sso.ErrStale) {
		t.Errorf("the second time: %v", err)
	}
}

func TestTheSecretIsSentAsTheIssuerTakesIt(t *testing.T) {
	for method, basic := range map[string]bool{"client_secret_basic": true, "client_secret_post": false} {
		issuer := ssotest.New(t, nil)
		issuer.Publish("token_endpoint_auth_methods_supported", []string{method})
		issuer.Answer("/token", func(w http.ResponseWriter, r *http.Request) {
			if _, _, ok := r.BasicAuth(); ok != basic || r.PostFormValue("client_secret") == "" != basic {
				t.Errorf("%s: by Basic %v", method, ok)
			}
			w.WriteHeader(http.StatusUnauthorized)
		})
		p := provider(issuer.URL)
		a, answer := begin(t, p)
		if _, err := finish(t, p, a, answer); !errors.Is(err, sso.ErrInvalid) {
			t.Error(err)
		}
	}
}

func TestDiscoveryThatIsNotBelieved(t *testing.T) {
	for what, c := range map[string]struct {
		name  string
		value any
		want  error
	}{
		"another issuer":              {"issuer", "https://other.example", sso.ErrInvalid},
		"a deeper issuer":             {"issuer", "http://127.0.0.1/realm", sso.ErrInvalid},
		"no issuer":                   {"issuer", nil, sso.ErrInvalid},
		"no authorization endpoint":   {"authorization_endpoint", "", sso.ErrInvalid},
		"a script to send people to":  {"authorization_endpoint", "javascript:alert(1)", sso.ErrInvalid},
		"a token endpoint of no host": {"token_endpoint", "https:///token", sso.ErrInvalid},
		"keys in a file":              {"jwks_uri", "file:///etc/passwd", sso.ErrInvalid},
		"no keys":                     {"jwks_uri", nil, sso.ErrInvalid},
		"HMAC alone":                  {"id_token_signing_alg_values_supported", []string{"HS256", "none"}, sso.ErrInvalid},
		"a list that is none":         {"scopes_supported", "openid", sso.ErrInvalid},
		"more than is read":           {"x", strings.Repeat("x", 300<<10), sso.ErrInvalid},
	} {
		issuer := ssotest.New(t, nil)
		issuer.Publish(c.name, c.value)
		p := provider(issuer.URL)
		if _, _, err := p.Begin(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		if err := p.Check(t.Context()); !errors.Is(err, c.want) {
			t.Errorf("%s, checked: %v", what, err)
		}
	}
}

func TestAProviderThatComesBack(t *testing.T) {
	issuer := ssotest.New(t, nil)
	issuer.Person(dara)
	p := provider(issuer.URL)
	asked := 0
	issuer.Answer("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		asked++
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	for range 20 {
		if _, _, err := p.Begin(t.Context()); !errors.Is(err, sso.ErrAway) {
			t.Fatal(err)
		}
	}
	if asked > 3 {
		t.Errorf("asked %d times within a moment", asked)
	}
	issuer.Answer("/.well-known/openid-configuration", nil)
	dbtest.Eventually(t, "the issuer that is back", func() bool {
		_, _, err := p.Begin(t.Context())
		return err == nil
	})
	// What is known stays in use when it is away again.
	issuer.Answer("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	a, answer := begin(t, p)
	if _, err := finish(t, p, a, answer); err != nil {
		t.Error(err)
	}
}

func TestAnIssuerThatIsNotThere(t *testing.T) {
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	if _, _, err := provider(closed.URL).Begin(t.Context()); !errors.Is(err, sso.ErrAway) {
		t.Error(err)
	}
	none := httptest.NewServer(http.NotFoundHandler())
	defer none.Close()
	if _, _, err := provider(none.URL).Begin(t.Context()); !errors.Is(err, sso.ErrInvalid) {
		t.Error(err)
	}
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hanging.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, _, err := provider(hanging.URL).Begin(ctx); !errors.Is(err, sso.ErrAway) {
		t.Error(err)
	}
}

// TestKeysThatTakeTooLongAreRefused: verifying with one such key takes a minute and more, even if another made the signature.
func TestKeysThatTakeTooLongAreRefused(t *testing.T) {
	for bits, want := range map[int]error{4096: nil, 8192: nil, 16384: sso.ErrInvalid, 500_000: sso.ErrInvalid} {
		issuer := ssotest.New(t, nil)
		issuer.Person(dara)
		response, err := (&http.Client{Timeout: time.Minute}).Get(issuer.URL + "/keys")
		if err != nil {
			t.Fatal(err)
		}
		var set struct {
			Keys []map[string]any `json:"keys"`
		}
		err = json.NewDecoder(response.Body).Decode(&set)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		large := bytes.Repeat([]byte{0xff}, bits/8)
		set.Keys = append(set.Keys, map[string]any{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "large", "e": "AQAB", "n": base64.RawURLEncoding.EncodeToString(large)})
		issuer.Answer("/keys", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(set) })
		p := provider(issuer.URL)
		a, answer := begin(t, p)
		if _, err := finish(t, p, a, answer); !errors.Is(err, want) {
			t.Errorf("a key of %d bits beside the right one: %v, want %v", bits, err, want)
		}
	}
}
