package connectors_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// asked is one request that a provider received.
type asked struct {
	call, kind, authorization string // call is method and path
	query                     string
	params                    map[string]string
}

// keyed is a provider that answers with what a test gives it, and the connector of an entry with more keys.
type keyed struct {
	connectors.Redirector
	mu   sync.Mutex
	all  []asked
	base string
}

// keyedProvider serves answers by method and path; what is not named answers with a token.
func keyedProvider(t *testing.T, keys string, settings, answers map[string]string) *keyed {
	t.Helper()
	k := &keyed{}
	k.base = serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		one := asked{call: r.Method + " " + r.URL.Path, kind: r.Header.Get("Content-Type"), authorization: r.Header.Get("Authorization"), query: r.URL.RawQuery, params: map[string]string{}}
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if one.kind == "application/json" {
			if err := json.Unmarshal(raw, &one.params); err != nil {
				t.Errorf("%s: %v", raw, err)
			}
		} else if form, err := url.ParseQuery(string(raw)); err == nil {
			for name := range form {
				one.params[name] = form.Get(name)
			}
		}
		k.mu.Lock()
		k.all = append(k.all, one)
		k.mu.Unlock()
		answer, ok := answers[one.call]
		if !ok {
			answer = `{"access_token":"the-access-token","refresh_token":"the-refresh-token","expires_in":3600}`
		}
		status := 200
		if code, rest, ok := strings.Cut(answer, "|"); ok {
			fmt.Sscan(code, &status)
			answer = rest
		}
		reply(w, status, "%s", answer)
	}})
	entry := `[{"name":"acme","authorize_url":"BASE/authorize","token_url":"BASE/token","client_id":"i d","environment":"production"` + keys + `}]`
	if !strings.Contains(keys, `"client_auth":"none"`) && !strings.Contains(keys, "client_key_env") {
		entry = strings.Replace(entry, `"client_id"`, `"client_secret_env":"ACME_SECRET","client_id"`, 1)
	}
	all := maps.Clone(acmeSettings)
	maps.Copy(all, settings)
	k.Redirector = connector(t, k.base, "acme", entry, all).(connectors.Redirector)
	return k
}

// connect exchanges a callback.
func (k *keyed) connect(t *testing.T, callback url.Values) connectors.Grant {
	t.Helper()
	if callback == nil {
		callback = url.Values{"code": {"C"}}
	}
	g, err := k.Exchange(t.Context(), flow(), callback)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// asked returns the last request to a method and path.
func (k *keyed) asked(t *testing.T, call string) asked {
	t.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := len(k.all) - 1; i >= 0; i-- {
		if k.all[i].call == call {
			return k.all[i]
		}
	}
	t.Fatalf("%s was not asked, but %v", call, k.all)
	return asked{}
}

func (k *keyed) authorizeQuery(t *testing.T) url.Values {
	t.Helper()
	location, err := k.AuthorizationURL(t.Context(), flow())
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	return u.Query()
}

func TestKeysOfTheAuthorizationRequest(t *testing.T) {
	for _, one := range []struct {
		name, keys string
		want       map[string]string // "" is absent
	}{
		{"by default", ``, map[string]string{"response_type": "code", "code_challenge_method": "S256", "client_id": "i d", "state": "S", "scope": "", "nonce": ""}},
		{"parameters of its own", `,"authorize_params":{"access_type":"offline","prompt":"consent"}`, map[string]string{"access_type": "offline", "prompt": "consent", "state": "S"}},
		{"commas between scopes", `,"scopes":["a:read","b"],"scope_separator":","`, map[string]string{"scope": "a:read,b"}},
		{"spaces between scopes", `,"scopes":["a:read","b"],"scope_separator":" "`, map[string]string{"scope": "a:read b"}},
		{"no PKCE", `,"pkce":false`, map[string]string{"code_challenge": "", "code_challenge_method": "", "state": "S"}},
		{"PKCE said", `,"pkce":true`, map[string]string{"code_challenge_method": "S256"}},
		{"another response type", `,"response_type":"code id_token"`, map[string]string{"response_type": "code id_token"}},
		{"another response type as a parameter", `,"authorize_params":{"response_type":"web_server"}`, map[string]string{"response_type": "web_server"}},
		{"a prompt", `,"prompt":"login consent"`, map[string]string{"prompt": "login consent"}},
	} {
		q := keyedProvider(t, one.keys, nil, nil).authorizeQuery(t)
		for name, want := range one.want {
			if q.Get(name) != want || want == "" && q.Has(name) {
				t.Errorf("%s: %s is %q, want %q", one.name, name, q.Get(name), want)
			}
		}
	}
}

func TestKeysOfTokenRequests(t *testing.T) {
	for _, one := range []struct {
		name, keys       string
		kind             string
		exchange, renew  map[string]string // "" is absent
		refreshedAt, how string
	}{
		{name: "by default", exchange: map[string]string{"grant_type": "authorization_code", "code": "C", "code_verifier": flow().Verifier, "client_secret": ""}, renew: map[string]string{"grant_type": "refresh_token", "refresh_token": "the-refresh-token"}, how: "Basic"},
		{name: "more parameters", keys: `,"token_params":{"expiring":"1"},"refresh_params":{"type":"refresh"}`, exchange: map[string]string{"expiring": "1", "type": "", "code": "C"}, renew: map[string]string{"expiring": "", "type": "refresh"}},
		{name: "JSON", keys: `,"body":"json"`, kind: "application/json", exchange: map[string]string{"code": "C"}, renew: map[string]string{"refresh_token": "the-refresh-token"}, how: "Basic"},
		{name: "JSON with the secret in it", keys: `,"body":"json","client_auth":"post"`, kind: "application/json", exchange: map[string]string{"client_id": "i d", "client_secret": "s3cret&of+acme"}, renew: map[string]string{"client_secret": "s3cret&of+acme"}},
		{name: "a form", keys: `,"body":"form"`, exchange: map[string]string{"code": "C"}},
		{name: "no PKCE", keys: `,"pkce":false`, exchange: map[string]string{"code_verifier": "", "code": "C"}},
		{name: "an address to refresh at", keys: `,"refresh_url":"BASE/renew"`, refreshedAt: "/renew"},
		{name: "a public client", keys: `,"client_auth":"none"`, exchange: map[string]string{"client_id": "i d", "client_secret": ""}, renew: map[string]string{"client_id": "i d", "client_secret": ""}, how: "none"},
	} {
		t.Run(one.name, func(t *testing.T) {
			k := keyedProvider(t, one.keys, nil, nil)
			g := k.connect(t, nil)
			if _, err := k.Refresh(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			refreshedAt := one.refreshedAt
			if refreshedAt == "" {
				refreshedAt = "/token"
			}
			kind := one.kind
			if kind == "" {
				kind = "application/x-www-form-urlencoded"
			}
			exchange, renew := k.all[0], k.asked(t, "POST "+refreshedAt)
			for name, want := range one.exchange {
				if exchange.params[name] != want {
					t.Errorf("exchange: %s is %q, want %q", name, exchange.params[name], want)
				}
			}
			for name, want := range one.renew {
				if renew.params[name] != want {
					t.Errorf("refresh: %s is %q, want %q", name, renew.params[name], want)
				}
			}
			if exchange.kind != kind || renew.kind != kind {
				t.Errorf("sent as %s and %s, want %s", exchange.kind, renew.kind, kind)
			}
			if one.how == "Basic" && !strings.HasPrefix(exchange.authorization, "Basic ") || one.how == "none" && exchange.authorization != "" {
				t.Errorf("authorization %q", exchange.authorization)
			}
		})
	}
}

func TestTheCodeHasAnotherName(t *testing.T) {
	k := keyedProvider(t, `,"code_param":"spapi_oauth_code"`, nil, nil)
	k.connect(t, url.Values{"spapi_oauth_code": {"X"}, "state": {"S"}})
	if got := k.asked(t, "POST /token").params["code"]; got != "X" {
		t.Errorf("code %q", got)
	}
	if k.Code(url.Values{"code": {"C"}}) != "" {
		t.Error("another parameter is taken for the code")
	}
	_, err := k.Exchange(t.Context(), flow(), url.Values{"code": {"C"}})
	var unreadable *connectors.UnreadableError
	if !errors.As(err, &unreadable) || unreadable.Reason != connectors.ReasonNoCode {
		t.Errorf("without it: %v", err)
	}
}

func TestTheTokenIsInsideTheAnswer(t *testing.T) {
	const slack = `{"ok":true,"access_token":"the-bot's","refresh_token":"the-bot's-refresh","authed_user":{"id":"U","access_token":"the-user's","token_type":"user"}}`
	for _, one := range []struct {
		name, keys, answer string
		access, refresh    string // "" access: no token
	}{
		{"the user's token", `,"answer":"authed_user"`, slack, "the-user's", ""},
		{"the token at the top", ``, slack, "the-bot's", "the-bot's-refresh"},
		{"two levels down", `,"answer":"data.auth"`, `{"data":{"auth":{"access_token":"A","refresh_token":"R"}}}`, "A", "R"},
		{"in a list", `,"answer":"tokens.0"`, `{"tokens":[{"access_token":"A"}]}`, "A", ""},
		{"not where it should be", `,"answer":"data"`, `{"access_token":"A"}`, "", ""},
		{"something else there", `,"answer":"data"`, `{"data":"A","access_token":"B"}`, "", ""},
		{"a no beside it", `,"answer":"data"`, `{"ok":false,"data":{"access_token":"A"}}`, "", ""},
	} {
		k := keyedProvider(t, one.keys, nil, map[string]string{"POST /token": one.answer})
		g, err := k.Exchange(t.Context(), flow(), url.Values{"code": {"C"}})
		if g.Access != one.access || g.Refresh != one.refresh || (err == nil) != (one.access != "") {
			t.Errorf("%s: token %s and %q, %v", one.name, g.Access, g.Refresh, err)
		}
	}
	k := keyedProvider(t, `,"answer":"authed_user"`, nil, map[string]string{"POST /token": `{"ok":true,"access_token":"renewed","refresh_token":"R2","token_type":"user"}`})
	if token, err := k.Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}}); err != nil || token.Access != "renewed" || token.Refresh != "R2" {
		t.Errorf("an answer to a refresh that nests nothing: %v", err)
	}
}

func TestHowLongARefreshTokenLastsIsDocumented(t *testing.T) {
	const day = 24 * time.Hour
	for _, one := range []struct {
		name, keys, answer string
		connected, renewed time.Duration
	}{
		{"nothing says so", ``, `{"access_token":"A","refresh_token":"R"}`, 0, 0},
		{"the entry says so", `,"refresh_life":"1440h"`, `{"access_token":"A","refresh_token":"R"}`, 60 * day, 60 * day},
		{"the answer outweighs it", `,"refresh_life":"1440h"`, `{"access_token":"A","refresh_token":"R","refresh_expires_in":86400}`, day, day},
		{"no refresh token at the exchange, and one that lasts on when it was used", `,"refresh_life":"1440h"`, `{"access_token":"A"}`, 0, 60 * day},
		{"QuickBooks", ``, `{"access_token":"A","refresh_token":"R","x_refresh_token_expires_in":8640000}`, 100 * day, 100 * day},
	} {
		k := keyedProvider(t, one.keys, nil, map[string]string{"POST /token": one.answer})
		g := k.connect(t, nil)
		token, err := k.Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}})
		if err != nil || g.RefreshLifetime != one.connected || token.RefreshLifetime != one.renewed {
			t.Errorf("%s: %s and %s, want %s and %s; %v", one.name, g.RefreshLifetime, token.RefreshLifetime, one.connected, one.renewed, err)
		}
	}
}

// clientKeys are private keys as operators have them.
func clientKeys(t *testing.T) (rsaPEM, ecPEM, jwk string, public map[string]any) {
	t.Helper()
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(r)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(e)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(jose.JSONWebKey{Key: r, KeyID: "k-1", Algorithm: "PS256"})
	if err != nil {
		t.Fatal(err)
	}
	rsaPEM = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	ecPEM = string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))
	return rsaPEM, ecPEM, string(raw), map[string]any{"RS256": r.Public(), "PS256": r.Public(), "ES256": e.Public()}
}

// TestAKeyProvesWhoWeAre is RFC 7523 at the exchange, at a refresh and at a revocation.
func TestAKeyProvesWhoWeAre(t *testing.T) {
	rsaPEM, ecPEM, jwk, public := clientKeys(t)
	for _, one := range []struct{ name, key, algorithm, kid string }{
		{"RSA as PEM", rsaPEM, "RS256", ""},
		{"P-256 as PEM", ecPEM, "ES256", ""},
		{"a JWK that names its algorithm and kid", jwk, "PS256", "k-1"},
	} {
		t.Run(one.name, func(t *testing.T) {
			k := keyedProvider(t, `,"client_auth":"private_key_jwt","client_key_env":"ACME_KEY","revoke_url":"BASE/revoke"`, map[string]string{"ACME_KEY": one.key}, nil)
			g := k.connect(t, nil)
			if _, err := k.Refresh(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			if err := k.Redirector.(connectors.Revoker).Revoke(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			seen := map[string]bool{}
			for _, request := range k.all {
				if request.params["client_assertion_type"] != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" || request.params["client_secret"] != "" || request.authorization != "" {
					t.Errorf("%s: %v", request.call, request.params)
				}
				signed, err := jose.ParseSigned(request.params["client_assertion"], []jose.SignatureAlgorithm{jose.SignatureAlgorithm(one.algorithm)})
				if err != nil {
					t.Fatal(err)
				}
				payload, err := signed.Verify(public[one.algorithm])
				if err != nil {
					t.Fatalf("%s: %v", request.call, err)
				}
				var claims struct {
					Iss, Sub, Aud, Jti string
					Iat, Exp           int64
				}
				if err := json.Unmarshal(payload, &claims); err != nil {
					t.Fatal(err)
				}
				if claims.Iss != "i d" || claims.Sub != "i d" || claims.Aud != k.base+"/token" || claims.Exp <= claims.Iat || claims.Exp > claims.Iat+300 || seen[claims.Jti] || claims.Jti == "" {
					t.Errorf("%s: %+v", request.call, claims)
				}
				seen[claims.Jti] = true
				if signed.Signatures[0].Header.KeyID != one.kid {
					t.Errorf("kid %q", signed.Signatures[0].Header.KeyID)
				}
			}
			if len(seen) != 4 {
				t.Errorf("%d assertions, want 4", len(seen))
			}
		})
	}
}

const accountAnswer = `{"access_token":"the-access-token","refresh_token":"the-refresh-token","team":{"id":"T1","name":"Acme"},"merchant_id":"M1","livemode":false,"n":12345678901234567890,"nil":null,"list":["a",{"b":"c"}],"stripe_user_id":"acct_1"}`

func TestAnEntrySaysWhoseAccountItIs(t *testing.T) {
	token := jwt(`{"event":"e 1/..","sub":"U9"}`)
	for _, one := range []struct {
		name, account string
		callback      url.Values
		id, shown     string
		values        connectors.Values
	}{
		{"a member of the answer", `{"id":"answer.merchant_id"}`, nil, "M1", "M1", nil},
		{"a member of a member, with a name", `{"id":"answer.team.id","name":"answer.team.name"}`, nil, "T1", "Acme", nil},
		{"an element of a list", `{"id":"answer.list.1.b","name":"answer.list.0"}`, nil, "c", "a", nil},
		{"the callback", `{"id":"callback.realmId","keep":{"realm_id":"callback.realmId"}}`, url.Values{"realmId": {"4620816365"}}, "4620816365", "4620816365", connectors.Values{"realm_id": "4620816365"}},
		{
			"what is kept is as it came", `{"id":"answer.stripe_user_id","keep":{"livemode":"answer.livemode","n":"answer.n","team":"answer.team.name","gone":"answer.gone","nil":"answer.nil","object":"answer.team","list":"answer.list"}}`, nil, "acct_1", "acct_1",
			connectors.Values{"livemode": false, "n": json.Number("12345678901234567890"), "team": "Acme"},
		},
		{"a number as id", `{"id":"answer.n"}`, nil, "12345678901234567890", "12345678901234567890", nil},
		{"a missing id", `{"id":"answer.team.uuid","name":"answer.team.name","keep":{"m":"answer.merchant_id"}}`, nil, "", "Acme", connectors.Values{"m": "M1"}},
		{"an object as id", `{"id":"answer.team"}`, nil, "", "", nil},
		{"an element that is not there", `{"id":"answer.list.7"}`, nil, "", "", nil},
		{"a negative element", `{"id":"answer.list.-1"}`, nil, "", "", nil},
		{"nothing else is read beside the token", `{"id":"answer.merchant_id"}`, url.Values{"realmId": {"1"}}, "M1", "M1", nil},
		{"a list that the account's address answers", `{"url":"BASE/list","id":"account.1.tenantId","name":"account.1.tenantName"}`, nil, "t-2", "Two", nil},
		{"an object that it answers", `{"url":"BASE/info","id":"account.portalId","keep":{"portal_id":"account.portalId"}}`, nil, "77", "77", connectors.Values{"portal_id": json.Number("77")}},
		{"its address fails, and access is kept", `{"url":"BASE/down","id":"account.portalId","name":"answer.team.name"}`, nil, "", "Acme", nil},
		{"it says no with 200", `{"url":"BASE/no","id":"account.id"}`, nil, "", "", nil},
		{"it answers HTML", `{"url":"BASE/html","id":"account.id"}`, nil, "", "", nil},
		{"what is kept alone is added to what stands beside the token", `{"keep":{"team":"answer.team.name","r":"callback.region"}}`, url.Values{"region": {"eu"}}, "M1/acct_1/T1", "Acme", connectors.Values{"livemode": false, "merchant_id": "M1", "r": "eu", "stripe_user_id": "acct_1", "team": "Acme", "team.id": "T1", "team.name": "Acme"}},
		{"with a name from an address", `{"url":"BASE/info","name":"account.portalId","keep":{"p":"account.portalId"}}`, nil, "M1/acct_1/T1", "77", connectors.Values{"livemode": false, "merchant_id": "M1", "p": json.Number("77"), "stripe_user_id": "acct_1", "team.id": "T1", "team.name": "Acme"}},
		{"its address needs what is missing", `{"url":"BASE/list?event={answer.gone}","id":"account.0.tenantId"}`, nil, "", "", nil},
	} {
		t.Run(one.name, func(t *testing.T) {
			callback := url.Values{"code": {"C"}}
			maps.Copy(callback, one.callback)
			k := keyedProvider(t, `,"account":`+one.account, nil, map[string]string{
				"POST /token": accountAnswer, "GET /list": `[{"tenantId":"t-1"},{"tenantId":"t-2","tenantName":"Two"}]`, "GET /info": `{"portalId":77}`,
				"GET /down": `500|{}`, "GET /no": `{"ok":false,"id":"x"}`, "GET /html": `<html>`,
			})
			g := k.connect(t, callback)
			if g.Account.ID != one.id || g.Account.Name != one.shown || fmt.Sprint(g.Account.Values) != fmt.Sprint(one.values) || g.Access != "the-access-token" {
				t.Errorf("account %q, named %q, with %v; want %q, %q, %v", g.Account.ID, g.Account.Name, g.Account.Values, one.id, one.shown, one.values)
			}
		})
	}
	k := keyedProvider(t, `,"account":{"url":"BASE/tenants/{e}?event={access_token.event}&x=1","id":"account.id","keep":{"e":"access_token.sub"}}`, nil,
		map[string]string{"POST /token": `{"access_token":"` + token + `"}`, "GET /tenants/U9": `{"id":"t-1"}`})
	if g := k.connect(t, nil); g.Account.ID != "t-1" {
		t.Errorf("account %q", g.Account.ID)
	}
	if got := k.asked(t, "GET /tenants/U9"); got.query != "event="+url.QueryEscape("e 1/..")+"&x=1" || got.authorization != "Bearer "+token {
		t.Errorf("asked %+v", got)
	}
}

// TestAPersonNeverStandsForACompany is finding 4: the ID token's sub is the bookkeeper's.
func TestAPersonNeverStandsForACompany(t *testing.T) {
	idToken := jwt(`{"sub":"bookkeeper","name":"Sok Dara","oid":"o-1"}`)
	for _, one := range []struct{ name, account, realm, id, user string }{
		{"the first company", `{"id":"callback.realmId"}`, "1", "1", "bookkeeper"},
		{"the second", `{"id":"callback.realmId"}`, "2", "2", "bookkeeper"},
		{"the company is missing", `{"id":"callback.realmId"}`, "", "", "bookkeeper"},
		{"an entry that means the person", `{"id":"id_token.sub"}`, "1", "bookkeeper", ""},
		{"an entry that means another claim", `{"id":"id_token.oid"}`, "1", "o-1", "bookkeeper"},
	} {
		k := keyedProvider(t, `,"account":`+one.account, nil, map[string]string{"POST /token": `{"access_token":"A","id_token":"` + idToken + `"}`})
		callback := url.Values{"code": {"C"}}
		if one.realm != "" {
			callback.Set("realmId", one.realm)
		}
		if g := k.connect(t, callback); g.Account.ID != one.id || g.Account.UserID != one.user {
			t.Errorf("%s: account %q of %q, want %q of %q", one.name, g.Account.ID, g.Account.UserID, one.id, one.user)
		}
	}
}

// TestTokensAreNotKept: what is kept is shown to programs and people.
func TestTokensAreNotKept(t *testing.T) {
	k := keyedProvider(t, `,"account":{"id":"answer.merchant_id","keep":{"a":"answer.copy","b":"answer.nested.url","c":"answer.again"}}`, nil, map[string]string{
		"POST /token": `{"access_token":"the-access-token","refresh_token":"the-refresh-token","merchant_id":"M","copy":"the-access-token","nested":{"url":"https://x.example/?t=the-refresh-token"},"again":"fine"}`,
	})
	if g := k.connect(t, nil); fmt.Sprint(g.Account.Values) != "map[c:fine]" {
		t.Errorf("kept %v", g.Account.Values)
	}
}

func TestHowAccessIsEnded(t *testing.T) {
	const square = `,"client_auth":"post","body":"json","account":{"id":"answer.merchant_id"},"revoke":{"url":"BASE/oauth2/revoke","as":"secret","ends":"account","params":{"client_id":"{client}","access_token":"{token}"}}`
	for _, one := range []struct {
		name, keys    string
		call          string
		authorization string // how it begins
		params        map[string]string
		whole         bool // params are all
		account, byID bool
	}{
		{"by the short form", `,"revoke_url":"BASE/revoke"`, "POST /revoke", "Basic ", map[string]string{"token": "the-access-token", "token_type_hint": "access_token"}, true, false, false},
		{"the short form in JSON", `,"body":"json","client_auth":"post","revoke_url":"BASE/revoke"`, "POST /revoke", "", map[string]string{"token": "the-access-token", "client_id": "i d"}, false, false, false},
		{"Square", square, "POST /oauth2/revoke", "Client s3cret&of+acme", map[string]string{"client_id": "i d", "access_token": "the-access-token"}, true, true, false},
		{"Stripe", `,"client_auth":"post","account":{"id":"answer.stripe_user_id"},"revoke":{"url":"BASE/deauthorize","ends":"account","params":{"stripe_user_id":"{account}"}}`, "POST /deauthorize", "", map[string]string{"stripe_user_id": "acct_1", "client_id": "i d", "client_secret": "s3cret&of+acme"}, true, true, true},
		{"Slack", `,"revoke":{"url":"BASE/api/auth.revoke","as":"token"}`, "POST /api/auth.revoke", "Bearer the-access-token", map[string]string{}, true, false, false},
		{"Xero", `,"account":{"id":"answer.team.id","keep":{"connection_id":"answer.list.0"}},"revoke":{"url":"BASE/connections/{connection_id}","method":"DELETE","as":"token"}`, "DELETE /connections/a", "Bearer the-access-token", map[string]string{}, true, false, false},
		{"a path that nothing keeps", `,"revoke":{"url":"BASE/x/{answer.team.id}","method":"DELETE","as":"token"}`, "DELETE /x/T1", "Bearer the-access-token", map[string]string{}, true, false, false},
		{"the refresh token in a parameter", `,"revoke":{"url":"BASE/x","params":{"t":"{token}","m":"{answer.merchant_id}"}}`, "POST /x", "Basic ", map[string]string{"t": "the-refresh-token", "m": "M1"}, true, false, false},
		{"the short form that ends the account", `,"revoke_url":"BASE/revoke","revoke":{"ends":"account"}`, "POST /revoke", "Basic ", map[string]string{"token": "the-access-token"}, false, true, false},
	} {
		t.Run(one.name, func(t *testing.T) {
			k := keyedProvider(t, one.keys, nil, map[string]string{"POST /token": accountAnswer})
			g := k.connect(t, nil)
			if err := k.Redirector.(connectors.Revoker).Revoke(t.Context(), g); err != nil {
				t.Fatal(err)
			}
			got := k.asked(t, one.call)
			if !strings.HasPrefix(got.authorization, one.authorization) || one.authorization == "" && got.authorization != "" {
				t.Errorf("authorization %q, want %q", got.authorization, one.authorization)
			}
			for name, want := range one.params {
				if got.params[name] != want {
					t.Errorf("%s is %q, want %q", name, got.params[name], want)
				}
			}
			if one.whole && len(got.params) != len(one.params) {
				t.Errorf("sent %v", got.params)
			}
			if info := k.Info(); info.RevokesAccount != one.account || info.RevokesByID != one.byID {
				t.Errorf("ends the account %t, by its id %t", info.RevokesAccount, info.RevokesByID)
			}
		})
	}
	k := keyedProvider(t, `,"revoke_url":"BASE/revoke"`, nil, map[string]string{"POST /token": accountAnswer})
	if err := k.Redirector.(connectors.Revoker).Revoke(t.Context(), k.connect(t, nil)); err != nil {
		t.Fatal(err)
	}
	if tokens := k.all[1].params["token"] + " " + k.all[2].params["token"]; tokens != "the-refresh-token the-access-token" {
		t.Errorf("RFC 7009: the refresh token, then the access token; ended %s", tokens)
	}
	k = keyedProvider(t, `,"revoke":{"url":"BASE/x/{answer.gone}","as":"token"}`, nil, map[string]string{"POST /token": accountAnswer})
	if err := k.Redirector.(connectors.Revoker).Revoke(t.Context(), k.connect(t, nil)); connectors.OutcomeOf(err) != status.Temporary || len(k.all) != 1 {
		t.Errorf("an address without what it needs: %v", err)
	}
	if _, ok := keyedProvider(t, `,"revoke":false`, nil, nil).Redirector.(connectors.Revoker); ok {
		t.Error("revoke is false, and it revokes")
	}
}

// TestWhatSaysNoIsNotBelieved is finding 7: Slack answers 200 with ok false.
func TestWhatSaysNoIsNotBelieved(t *testing.T) {
	for _, one := range []struct {
		name, answer string
		outcome      status.Outcome
	}{
		{"an empty 200", `200|`, status.OK},
		{"204", `204|`, status.OK},
		{"ok", `{"ok":true,"revoked":true}`, status.OK},
		{"an error that is none", `{"error":null}`, status.OK},
		{"an error that is empty", `{"error":""}`, status.OK},
		{"Slack's no about us", `{"ok":false,"error":"invalid_client"}`, status.ClientRejected},
		{"Slack's no about the token", `{"ok":false,"error":"token_revoked"}`, status.Rejected},
		{"a no without a word", `{"ok":false}`, status.Temporary},
		{"an error in a 200", `{"error":"not_authed"}`, status.Temporary},
		{"an error with members in a 200", `{"error":{"code":"x"}}`, status.Temporary},
		{"success false", `{"success":false}`, status.Temporary},
		{"400", `400|{"error":"unsupported_token_type"}`, status.Temporary},
		{"503", `503|`, status.Temporary},
	} {
		k := keyedProvider(t, `,"revoke":{"url":"BASE/revoke","as":"token"}`, nil, map[string]string{"POST /revoke": one.answer})
		err := k.Redirector.(connectors.Revoker).Revoke(t.Context(), k.connect(t, nil))
		if connectors.OutcomeOf(err) != one.outcome {
			t.Errorf("%s: %s (%v), want %s", one.name, connectors.OutcomeOf(err), err, one.outcome)
		}
	}
}

func TestFaultsOfKeys(t *testing.T) {
	rsaPEM, _, _, _ := clientKeys(t)
	small := base64.StdEncoding.EncodeToString([]byte("no key"))
	settings := map[string]string{"ACME_SECRET": "hunter2", "ACME_KEY": rsaPEM, "NO_KEY": small}
	for _, one := range []struct{ keys, fault string }{ // a fault of "" is a right entry
		{`"authorize_params":{"state":"x"}`, "authorize_params.state is ours to set"},
		{`"authorize_params":{"client_id":"x"}`, "authorize_params.client_id is ours to set"},
		{`"authorize_params":{"redirect_uri":"x"}`, "authorize_params.redirect_uri is ours to set"},
		{`"authorize_params":{"code_challenge":"x"}`, "authorize_params.code_challenge is ours to set"},
		{`"issuer":"https://id.example","authorize_params":{"nonce":"x"}`, "authorize_params.nonce is ours to set"},
		{`"issuer":"https://id.example","authorize_params":{"request":"x"}`, "authorize_params.request is ours to set"},
		{`"authorize_params":{"nonce":"x","request":"authorize"}`, ""},
		{`"token_params":{"scope":"x"}`, "token_params.scope is ours to set"},
		{`"refresh_params":{"scope":"x"}`, ""},
		{`"authorize_params":{"scope":"x"}`, "authorize_params.scope is ours to set"},
		{`"authorize_params":{"State":"x"}`, "authorize_params.State is ours to set"},
		{`"authorize_params":{"response_type":"code","prompt":"consent","access_type":"offline"}`, ""},
		{`"token_params":{"grant_type":"password"}`, "token_params.grant_type is ours to set"},
		{`"token_params":{"code":"x"}`, "token_params.code is ours to set"},
		{`"token_params":{"client_secret":"x"}`, "token_params.client_secret is ours to set"},
		{`"token_params":{"code_verifier":"x"}`, "token_params.code_verifier is ours to set"},
		{`"refresh_params":{"refresh_token":"x"}`, "refresh_params.refresh_token is ours to set"},
		{`"prompt":"login","authorize_params":{"prompt":"consent"}`, "prompt is in authorize_params too"},
		{`"client_auth":"none"`, "client_secret_env is not used with client_auth none"},
		{`"client_auth":"private_key_jwt"`, "client_key_env is missing"},
		{`"client_auth":"private_key_jwt","client_secret_env":null,"client_key_env":"ACME_KEY"`, ""},
		{`"client_auth":"private_key_jwt","client_secret_env":null,"client_key_env":"NOT_SET"`, "client_key_env names NOT_SET, which is not set"},
		{`"client_auth":"private_key_jwt","client_secret_env":null,"client_key_env":"NO_KEY"`, "client_key_env names NO_KEY, which holds no private key"},
		{`"client_key_env":"ACME_KEY"`, "client_key_env is not used with client_auth basic"},
		{`"refresh_url":"http://x.example"`, "refresh_url must begin with https"},
		{`"answer":"a..b"`, "answer must be the names of members"},
		{`"account":{"name":"answer.a"}`, "account.id is missing"},
		{`"account":{"id":"token.a"}`, "account.id must begin with callback., answer., id_token., access_token., account. or input."},
		{`"account":{"id":"answer"}`, "account.id must name a member after each dot"},
		{`"account":{"id":"answer."}`, "account.id must name a member after each dot"},
		{`"account":{"id":"answer.a..b"}`, "account.id must name a member after each dot"},
		{`"account":{"id":"answer.access_token"}`, "account.id must not be a secret"},
		{`"account":{"id":"answer.a","keep":{"t":"answer.data.refresh_token"}}`, "account.keep.t must not be a secret"},
		{`"account":{"id":"answer.a","keep":{"t":"callback.code"}}`, "account.keep.t must not be a secret"},
		{`"account":{"id":"account.id"}`, "account.id reads what account.url answers, and there is none"},
		{`"account":{"id":"input.shop"}`, "account.id names no input"},
		{`"account":{"id":"answer.a","keep":{"a b":"answer.a"}}`, "account.keep.a b must be called by letters"},
		{`"account":{"id":"answer.a","keep":{"token":"answer.a"}}`, "account.keep.token must be called by letters"},
		{`"account":{"id":"answer.a","url":"https://x.example/{account.id}"}`, "account.url: {account.id} is in what account.url answers"},
		{`"account":{"id":"answer.a","url":"https://x.example/{k}","keep":{"k":"account.id"}}`, "account.url: {k} is in what account.url answers"},
		{`"account":{"id":"answer.a","url":"https://x.example/{gone}"}`, "account.url: {gone} must begin with"},
		{`"account":{"id":"answer.a","url":"https://{answer.b}.x.example/a"}`, "account.url must not hold a name in braces before its path"},
		{`"account":{"id":"answer.a","url":"https://x.example/a-{answer.b}"}`, "account.url may hold a name in braces as a whole segment"},
		{`"account":{"id":"answer.a","url":"https://x.example/?{answer.b}=1"}`, "account.url may hold a name in braces as a whole segment"},
		{`"account":{"id":"answer.a","url":"https://x.example/?a=b{answer.b}"}`, "account.url may hold a name in braces as a whole segment"},
		{`"account":{"id":"answer.a","url":"https://x.example/{answer.b"}`, "account.url may hold a name in braces as a whole segment"},
		{`"account":{"id":"answer.a","url":"http://x.example/"}`, "account.url must begin with https"},
		{`"account":{"id":"answer.a","url":"https://x.example/{answer.b}?c={answer.d}"}`, ""},
		{`"revoke":false,"revoke_url":"https://x.example"`, "revoke is false, and there is a revoke_url"},
		{`"revoke":{"url":"https://x.example"},"revoke_url":"https://x.example"`, "revoke.url and revoke_url are the same"},
		{`"revoke":{"ends":"account"}`, "revoke.url is missing"},
		{`"revoke":{"url":"https://x.example/{token}"}`, "revoke.url: {token} is a secret"},
		{`"revoke":{"url":"https://x.example/{connection}"}`, "revoke.url: {connection} is neither kept"},
		{`"revoke":{"url":"https://x.example/a{answer.b}"}`, "revoke.url may hold"},
		{`"revoke":{"url":"https://x.example","params":{"a":"{b}"}}`, "revoke.params.a: {b} is neither kept"},
		{`"revoke":{"url":"https://x.example","params":{"a":"{answer.access_token}"}}`, "revoke.params.a: {answer.access_token} must not be a secret"},
		{`"revoke":{"url":"https://x.example","params":{"a":"{token"}}`, "revoke.params.a has a brace without its other"},
		{`"revoke":{"url":"https://x.example","as":"secret"},"client_auth":"none","client_secret_env":null`, "revoke.as is secret, and there is no client_secret_env"},
		{`"account":{"id":"answer.a","keep":{"k":"answer.b"}},"revoke":{"url":"https://x.example/{k}/{account}","method":"DELETE","params":{"a":"{token}","b":"{client} {answer.c}"}}`, ""},
	} {
		entry := `[{"name":"acme","authorize_url":"https://x.example/a","token_url":"https://x.example/t","client_id":"i","client_secret_env":"ACME_SECRET","environment":"production",` + one.keys + `}]`
		if strings.Contains(one.keys, "client_secret_env") {
			entry = strings.Replace(entry, `"client_secret_env":"ACME_SECRET",`, "", 1)
		}
		_, err := connectors.Load(func(name string) string { return settings[name] }, []byte(entry), connectors.NewClient(nil, nil))
		if one.fault == "" && err != nil || one.fault != "" && (err == nil || !strings.Contains(err.Error(), "entry acme: "+one.fault)) {
			t.Errorf("%s: %v; want %q", one.keys, err, one.fault)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a value shows: %v", err)
		}
	}
}
