package connectors_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// answers returns a token endpoint that answers with this status, content type and body.
func answers(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = nil
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func exchanged(t *testing.T, token http.HandlerFunc) (connectors.Grant, *connectors.Calls, error) {
	t.Helper()
	entry := strings.Replace(byAddress, `"userinfo_url":"BASE/userinfo",`, "", 1)
	base := serve(t, map[string]http.HandlerFunc{"POST /token": token})
	ctx, calls := connectors.WithCalls(t.Context())
	g, err := connector(t, base, "acme", entry, acmeSettings).(connectors.Redirector).Exchange(ctx, flow(), url.Values{"code": {"C"}})
	return g, calls, err
}

// TestLifetimeIsNotInvented: no end is known unless one was said.
func TestLifetimeIsNotInvented(t *testing.T) {
	for name, c := range map[string]struct {
		answer    string
		lifetime  time.Duration
		renewable bool
	}{
		"nothing said":               {`{"access_token":"A","token_type":"bearer","scope":"repo"}`, 0, false},
		"zero":                       {`{"access_token":"A","expires_in":0}`, 0, false},
		"zero as text":               {`{"access_token":"A","expires_in":"0"}`, 0, false},
		"null":                       {`{"access_token":"A","expires_in":null,"refresh_token":null}`, 0, false},
		"empty":                      {`{"access_token":"A","expires_in":"","refresh_token":""}`, 0, false},
		"negative":                   {`{"access_token":"A","expires_in":-1}`, 0, false},
		"never":                      {`{"access_token":"A","expires_in":"never"}`, 0, false},
		"a thousand years":           {`{"access_token":"A","expires_in":31536000000}`, 0, false},
		"refresh token alone":        {`{"access_token":"A","refresh_token":"R"}`, 0, true},
		"an hour":                    {`{"access_token":"A","expires_in":3600}`, time.Hour, false},
		"an hour as text":            {`{"access_token":"A","expires_in":"3600","refresh_token":"R"}`, time.Hour, true},
		"an hour with an exponent":   {`{"access_token":"A","expires_in":3.6e3}`, time.Hour, false},
		"zero, and the token's exp":  {fmt.Sprintf(`{"access_token":%q,"expires_in":0}`, jwt(`{"iat":1000000000,"exp":1000007200}`)), 2 * time.Hour, false},
		"camel case, an hour":        {`{"accessToken":"A","expiresIn":3600,"refreshToken":"R"}`, time.Hour, true},
		"an hour in words":           {`{"access_token":"A","expires_in":"1 hour"}`, time.Hour, false},
		"space for a refresh token":  {`{"access_token":"A","refresh_token":" "}`, 0, false},
		"a number for refresh token": {`{"access_token":"A","refresh_token":7}`, 0, false},
	} {
		g, _, err := exchanged(t, answers(200, "application/json", c.answer))
		if err != nil || g.Lifetime != c.lifetime || (g.Refresh != "") != c.renewable {
			t.Errorf("%s: lasts %s, renewable %t, %v; want %s, %t", name, g.Lifetime, g.Refresh != "", err, c.lifetime, c.renewable)
		}
	}
}

// TestAnswersInOtherShapes: what is meant is clear.
func TestAnswersInOtherShapes(t *testing.T) {
	const form = "access_token=A&token_type=bearer&expires_in=3600&refresh_token=R&scope=a+b"
	const whole = `{"access_token":"A","token_type":"BEARER","expires_in":3600,"refresh_token":"R","scope":["a","b"]}`
	for name, c := range map[string]struct{ contentType, body string }{
		"form":                       {"application/x-www-form-urlencoded", form},
		"form with charset":          {"application/x-www-form-urlencoded; charset=UTF-8", form},
		"form as text":               {"text/plain", form},
		"form as HTML":               {"text/html; charset=utf-8", form},
		"form without a type":        {"", form},
		"form that ends in a line":   {"application/x-www-form-urlencoded", form + "\n"},
		"JSON as text":               {"text/plain; charset=utf-8", whole},
		"JSON as a form":             {"application/x-www-form-urlencoded", whole},
		"JSON without a type":        {"", whole},
		"byte order mark":            {"application/json", "\ufeff" + whole},
		"below data":                 {"application/json", `{"status":"ok","data":` + whole + `}`},
		"below result":               {"application/json", `{"result":` + whole + `,"error":null}`},
		"below authed_user":          {"application/json", `{"ok":true,"authed_user":` + whole + `}`},
		"below token":                {"application/json", `{"token":` + whole + `}`},
		"camel case":                 {"application/json", `{"accessToken":"A","expiresIn":3600,"refreshToken":"R","scope":"a,b"}`},
		"members of odd types":       {"application/json", `{"access_token":"A","expires_in":"3600.0","refresh_token":"R","scope":"a b","user":null,"expires":{"a":1}}`},
		"an unknown type of a token": {"application/json", `{"access_token":"A","token_type":"bot","expires_in":3600,"refresh_token":"R","scope":"a b"}`},
	} {
		for _, status := range []int{200, 201} {
			g, _, err := exchanged(t, answers(status, c.contentType, c.body))
			if err != nil || g.Access != "A" || g.Refresh != "R" || g.Lifetime != time.Hour || fmt.Sprint(g.Scope) != "[a b]" || g.Type != "Bearer" && g.Type != "bot" {
				t.Errorf("%s, %d: %v; token %t, lasts %s, scope %v, type %q", name, status, err, g.Access == "A", g.Lifetime, g.Scope, g.Type)
			}
		}
	}
}

// TestAnswersNotUnderstood: staff learn what is wrong with an answer, without a value of it.
func TestAnswersNotUnderstood(t *testing.T) {
	for name, c := range map[string]struct {
		status            int
		contentType, body string
		want              string
	}{
		"XML":                {200, "application/xml", `<token>hunter2</token>`, "unreadable (HTTP 200, application/xml, not JSON)"},
		"HTML":               {200, "text/html; charset=utf-8", `<html>hunter2`, "unreadable (HTTP 200, text/html, not JSON)"},
		"list":               {200, "application/json", `[{"access_token":"hunter2"}]`, "unreadable (HTTP 200, application/json, a list and not a JSON object)"},
		"text":               {200, "application/json", `"hunter2"`, "unreadable (HTTP 200, application/json, a text and not a JSON object)"},
		"null":               {200, "application/json", `null`, "unreadable (HTTP 200, application/json, null and not a JSON object)"},
		"empty":              {200, "", ``, "unreadable (HTTP 200, no content type, empty body)"},
		"secret in the type": {200, "application/hunter2/x", `<`, "unreadable (HTTP 200, an odd content type, not JSON)"},
		"code in the type":   {200, "application/code-of-a-flow-1", `<`, "unreadable (HTTP 200, application/code-of-a-flow-1, not JSON)"},
		"missing":            {200, "application/json", `{"expires_in":3600}`, "no-token (HTTP 200, access_token is missing)"},
		"number":             {200, "application/json", `{"access_token":12345}`, "no-token (HTTP 200, access_token is a number)"},
		"object":             {200, "application/json", `{"access_token":{"a":"hunter2"}}`, "no-token (HTTP 200, access_token is an object)"},
		"no text":            {200, "application/json", `{"access_token":" "}`, "no-token (HTTP 200, access_token is empty)"},
		"not ASCII":          {200, "application/json", `{"access_token":"hunter2\u0000"}`, "no-token (HTTP 200, access_token holds characters that no header carries)"},
		"unknown code":       {422, "application/json", `{"error":"E1234","error_description":"hunter2"}`, "status (HTTP 422, error E1234)"},
		"mac":                {200, "application/json", `{"access_token":"hunter2","token_type":"mac"}`, "token-type (token_type mac wants a proof of possession)"},
		"DPoP":               {200, "application/json", `{"access_token":"hunter2","token_type":"DPoP"}`, "token-type (token_type dpop wants a proof of possession)"},
		"pop":                {200, "application/json", `{"access_token":"hunter2","token_type":"POP"}`, "token-type (token_type pop wants a proof of possession)"},
		"form without token": {200, "application/x-www-form-urlencoded", "expires_in=3600", "no-token (HTTP 200, access_token is missing)"},
	} {
		g, calls, err := exchanged(t, answers(c.status, c.contentType, c.body))
		if g.Access != "" || connectors.ReasonOf(err) != c.want || calls.Last().Detail != c.want {
			t.Errorf("%s: %q, recorded %q, want %q", name, connectors.ReasonOf(err), calls.Last().Detail, c.want)
		}
		if strings.Contains(fmt.Sprintf("%v %+v", err, calls.All), "hunter2") {
			t.Errorf("%s: a value shows", name)
		}
		if want := status.Temporary; !strings.HasPrefix(c.want, "token-type") && connectors.OutcomeOf(err) != want {
			t.Errorf("%s: %s, want %s", name, connectors.OutcomeOf(err), want)
		} else if strings.HasPrefix(c.want, "token-type") && connectors.OutcomeOf(err) != status.ClientRejected {
			t.Errorf("%s: %s, want it ours", name, connectors.OutcomeOf(err))
		}
	}
}

func signedBySecret(alg, claims, secret string) string {
	part := base64.RawURLEncoding.EncodeToString
	signed := part([]byte(`{"alg":"`+alg+`"}`)) + "." + part([]byte(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + part(mac.Sum(nil))
}

// TestIDTokenBySecret: LINE signs ID tokens with the client secret and does not list the algorithm.
func TestIDTokenBySecret(t *testing.T) {
	secret := acmeSettings["ACME_SECRET"]
	for name, c := range map[string]struct {
		sign func(claims string) string
		want string // account, or reason
	}{
		"by the secret":     {func(s string) string { return signedBySecret("HS256", s, secret) }, "U1"},
		"by another secret": {func(s string) string { return signedBySecret("HS256", s, "guessed") }, "id-token (id_token: its signature does not verify, or is made with an algorithm that is not expected)"},
		"by nothing":        {func(s string) string { return signedBySecret("HS256", s, "") }, "id-token (id_token: its signature does not verify, or is made with an algorithm that is not expected)"},
		"unsigned":          {func(s string) string { return signedBySecret("none", s, secret) }, "id-token (id_token: its signature does not verify, or is made with an algorithm that is not expected)"},
		"another MAC":       {func(s string) string { return signedBySecret("HS512", s, secret) }, "id-token (id_token: its signature does not verify, or is made with an algorithm that is not expected)"},
		"another shop's": {func(s string) string {
			return signedBySecret("HS256", strings.Replace(s, `"a c:me"`, `"x"`, 1), secret)
		}, "id-token (id_token: aud is not our client)"},
		"an earlier flow's": {func(s string) string {
			return signedBySecret("HS256", strings.Replace(s, `"nonce":"`, `"nonce":"x`, 1), secret)
		}, "id-token (id_token: nonce is not this attempt's)"},
		"no JWT":                {func(string) string { return "rubbish" }, "id-token (id_token: is no JWT)"},
		"a signature cut short": {func(s string) string { s = signedBySecret("HS256", s, secret); return s[:len(s)-6] }, "id-token (id_token: its signature does not verify, or is made with an algorithm that is not expected)"},
	} {
		i := newIssuer(t)
		all := i.handler()
		g, err := finish(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/token" {
				all.ServeHTTP(w, r)
				return
			}
			_, nonce, _ := strings.Cut(strings.TrimPrefix(r.PostFormValue("code"), "code."), ".")
			claims := fmt.Sprintf(`{"iss":%q,"aud":"a c:me","sub":"U1","nonce":%q,"name":"N","exp":%d}`, "http://"+r.Host, nonce, time.Now().Unix()+300)
			reply(w, 200, `{"access_token":"access-of-acme","id_token":%q}`, c.sign(claims))
		}))
		got := g.Account.ID
		if err != nil {
			got = connectors.ReasonOf(err)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestUserinfoInOtherShapes: access was obtained, whatever userinfo answers.
func TestUserinfoInOtherShapes(t *testing.T) {
	for name, c := range map[string]struct{ contentType, body, id, name string }{
		"JWT":         {"application/jwt", newIssuer(t).sign(`{"sub":"U1","name":"By JWT"}`), "U1", "By JWT"},
		"id":          {"application/json", `{"id":"acct-7","name":"By id"}`, "acct-7", "By id"},
		"number":      {"application/json", `{"id":85501122334455,"name":"N"}`, "85501122334455", "N"},
		"nulls":       {"application/json", `{"sub":"U1","name":null,"email":null,"picture":17}`, "U1", "U1"},
		"list":        {"application/json", `[{"tenantId":"T1","tenantName":"Acme"}]`, "", ""},
		"HTML":        {"text/html", `<html>`, "", ""},
		"no id":       {"application/json", `{"portal":7}`, "", ""},
		"empty":       {"application/json", ``, "", ""},
		"form":        {"application/x-www-form-urlencoded", `id=7&name=By+form`, "7", "By form"},
		"null":        {"application/json", `null`, "", ""},
		"JWT of data": {"text/plain", jwt(`[1]`), "", ""},
	} {
		base := serve(t, map[string]http.HandlerFunc{
			"POST /token":   says(200, `{"access_token":"A"}`),
			"GET /userinfo": answers(200, c.contentType, c.body),
		})
		g, err := connector(t, base, "acme", byAddress, acmeSettings).(connectors.Redirector).Exchange(t.Context(), flow(), url.Values{"code": {"C"}})
		if err != nil || g.Account.ID != c.id || g.Account.Name != c.name {
			t.Errorf("%s: %q %q, %v; want %q %q", name, g.Account.ID, g.Account.Name, err, c.id, c.name)
		}
	}
}

// TestDiscoveryMoved: a redirect within the issuer's origin is followed once (Django OAuth Toolkit adds a slash).
func TestDiscoveryMoved(t *testing.T) {
	const path = "/.well-known/openid-configuration"
	for name, c := range map[string]struct {
		to string
		ok bool
	}{
		"slash":         {"BASE" + path + "/", true},
		"relative":      {path + "/", true},
		"another host":  {"http://127.0.0.2:1" + path, false},
		"another port":  {"http://127.0.0.1:1" + path, false},
		"to itself":     {path, false},
		"another realm": {"ftp://127.0.0.1/x", false},
		"nowhere":       {"", false},
	} {
		var s *httptest.Server
		s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == path+"/" {
				reply(w, 200, `{"issuer":"%[1]s","authorization_endpoint":"%[1]s/a","token_endpoint":"%[1]s/t"}`, s.URL)
				return
			}
			w.Header().Set("Location", strings.ReplaceAll(c.to, "BASE", s.URL))
			w.WriteHeader(301)
		}))
		t.Cleanup(s.Close)
		_, err := connector(t, s.URL, "acme", byIssuer, acmeSettings).(connectors.Redirector).AuthorizationURL(t.Context(), flow())
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestKeysOfOrdinarySize: a key set that would keep a processor busy for minutes is refused.
func TestKeysOfOrdinarySize(t *testing.T) {
	key := func(bits int) string {
		return `{"kty":"RSA","kid":"x","n":"` + base64.RawURLEncoding.EncodeToString([]byte(strings.Repeat("\xff", bits/8))) + `","e":"AQAB"}`
	}
	for name, c := range map[string]struct{ keys, want string }{
		"large modulus": {`{"keys":[` + key(8200+8) + `]}`, "too-large (jwks_uri: an RSA key of more than 8,192 bits)"},
		"huge modulus":  {`{"keys":[` + key(500000) + `]}`, "too-large (jwks_uri: an RSA key of more than 8,192 bits)"},
		"second key":    {`{"keys":[` + key(2048) + `,` + key(16384) + `]}`, "too-large (jwks_uri: an RSA key of more than 8,192 bits)"},
		"long":          {`{"keys":[],"x":"` + strings.Repeat("x", 129<<10) + `"}`, "too-large (jwks_uri: more than 128 kB)"},
		"8,192 bits":    {`{"keys":[` + key(8192) + `]}`, "id-token (id_token: its signature does not verify, or is made with an algorithm that is not expected)"},
	} {
		i := newIssuer(t).handler()
		_, err := finish(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/keys" {
				reply(w, 200, "%s", c.keys)
				return
			}
			i.ServeHTTP(w, r)
		}))
		if connectors.ReasonOf(err) != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// TestConsentIsAskedFor: without it an OpenID Connect provider may give no refresh token.
func TestConsentIsAskedFor(t *testing.T) {
	for name, c := range map[string]struct{ path, authorize, scopes, want string }{
		"offline_access":           {"/.well-known/openid-configuration", "BASE/a", `"openid","offline_access"`, "consent"},
		"offline_access, no issue": {"/.well-known/openid-configuration", "BASE/a", `"offline_access"`, "consent"},
		"no offline_access":        {"/.well-known/openid-configuration", "BASE/a", `"openid","orders"`, ""},
		"its own prompt":           {"/.well-known/openid-configuration", "BASE/a?prompt=select_account", `"openid","offline_access"`, "select_account"},
		"its own query":            {"/.well-known/openid-configuration", "BASE/a?tenant=1", `"openid","offline_access"`, "consent"},
		"RFC 8414":                 {"/.well-known/oauth-authorization-server", "BASE/a", `"offline_access"`, ""},
	} {
		var base string
		base = serve(t, map[string]http.HandlerFunc{"GET " + c.path: func(w http.ResponseWriter, r *http.Request) {
			reply(w, 200, `{"issuer":"%s","authorization_endpoint":"%s","token_endpoint":"%s/t"}`, base, strings.Replace(c.authorize, "BASE", base, 1), base)
		}})
		entry := `[{"name":"acme","issuer":"BASE","client_id":"i","client_secret_env":"ACME_SECRET","environment":"production","scopes":[` + c.scopes + `]}]`
		location, err := connector(t, base, "acme", entry, acmeSettings).(connectors.Redirector).AuthorizationURL(t.Context(), flow())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if u, _ := url.Parse(location); u.Query().Get("prompt") != c.want {
			t.Errorf("%s: prompt %q, want %q", name, u.Query().Get("prompt"), c.want)
		}
	}
}
