package sandbox

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	acmeCallback = app + "/connect/acme/callback"
	verifier     = "a-verifier-that-is-long-enough-for-anybody-0123"
)

func acmeBasic() with { return basicly("acme-sandbox-client", "acme-sandbox-secret") }

func acmeQuery(change ...string) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"client_id": {"acme-sandbox-client"}, "redirect_uri": {acmeCallback}, "response_type": {"code"}, "state": {"s1"}, "nonce": {"n1"},
		"scope":          {"openid profile email offline_access"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(change); i += 2 {
		q.Set(change[i], change[i+1])
	}
	return q
}

func (b *bench) acmeCode() string {
	b.Helper()
	page := b.want(b.send("GET", "/acme/authorize?"+acmeQuery().Encode(), nil), 200, "imitates Acme")
	return b.want(b.decide(page, "/acme/authorize", "acme-user-002", "allow"), 303).query().Get("code")
}

func (b *bench) acmeExchange(code string) answer {
	return b.send("POST", "/acme/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {acmeCallback}, "code_verifier": {verifier},
	}, acmeBasic())
}

func (b *bench) acmeRefresh(refresh string) answer {
	return b.send("POST", "/acme/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}, acmeBasic())
}

func TestStandardConnects(t *testing.T) {
	b := start(t, Options{})
	found := b.want(b.send("GET", "/acme/.well-known/openid-configuration", nil), 200)
	if found.text("issuer") != b.BaseURL()+"/acme" || found.text("userinfo_endpoint") == "" || found.text("revocation_endpoint") == "" {
		t.Errorf("discovery %s", found.raw)
	}
	b.want(b.send("GET", "/acme/.well-known/oauth-authorization-server", nil), 200, "token_endpoint")
	b.want(b.send("GET", "/.well-known/oauth-authorization-server/acme", nil), 200, "token_endpoint")

	page := b.send("GET", "/acme/authorize?"+acmeQuery().Encode(), nil)
	back := b.want(b.decide(page, "/acme/authorize", "acme-user-002", "allow"), 303)
	if q := back.query(); q.Get("state") != "s1" || q.Get("iss") != b.BaseURL()+"/acme" {
		t.Errorf("back %v", q)
	}
	tokens := b.want(b.acmeExchange(back.query().Get("code")), 200)
	if tokens.body["expires_in"] != 3600.0 || tokens.text("refresh_token") == "" {
		t.Errorf("tokens %s", tokens.raw)
	}
	head, claims := b.claims(tokens.text("id_token"))
	if claims["iss"] != found.text("issuer") || claims["aud"] != "acme-sandbox-client" || claims["nonce"] != "n1" || claims["sub"] != "acme-user-002" || claims["name"] != "Élodie Tremblay" {
		t.Errorf("claims %v", claims)
	}
	var set struct{ Keys []struct{ Kid, N, E string } }
	if err := json.Unmarshal([]byte(b.send("GET", "/acme/jwks", nil).raw), &set); err != nil || set.Keys[0].Kid != head["kid"] {
		t.Fatalf("jwks %v %v", set, err)
	}
	n, _ := base64.RawURLEncoding.DecodeString(set.Keys[0].N)
	e, _ := base64.RawURLEncoding.DecodeString(set.Keys[0].E)
	input, signature, _ := cutLast(tokens.text("id_token"), ".")
	sum := sha256.Sum256([]byte(input))
	raw, _ := base64.RawURLEncoding.DecodeString(signature)
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], raw) != nil {
		t.Error("the published key does not verify the ID token")
	}
	bearer := header("Authorization", "Bearer "+tokens.text("access_token"))
	b.want(b.send("GET", "/acme/userinfo", nil, bearer), 200, "elodie@acme.example")

	denied := b.want(b.decide(page, "/acme/authorize", "acme-user-002", "deny"), 303).query()
	if denied.Get("error") != "access_denied" || denied.Get("state") != "s1" || denied.Get("iss") == "" {
		t.Errorf("denied %v", denied)
	}
}

func TestStandardIsStrict(t *testing.T) {
	b := start(t, Options{})
	for fault, change := range map[string][]string{
		"unsupported_response_type": {"response_type", "token"},
		"invalid_request":           {"code_challenge_method", "plain"},
		"invalid_scope":             {"scope", "openid everything"},
	} {
		if got := b.want(b.send("GET", "/acme/authorize?"+acmeQuery(change...).Encode(), nil), 302).query().Get("error"); got != fault {
			t.Errorf("%v: %s", change, got)
		}
	}
	b.want(b.send("GET", "/acme/authorize?"+acmeQuery("redirect_uri", reckless).Encode(), nil), 400)
	b.want(b.send("GET", "/acme/authorize?"+acmeQuery("client_id", "x").Encode(), nil), 400)

	form := func(pairs ...string) url.Values {
		f := url.Values{"grant_type": {"authorization_code"}, "code": {b.acmeCode()}, "redirect_uri": {acmeCallback}, "code_verifier": {verifier}}
		for i := 0; i < len(pairs); i += 2 {
			f.Set(pairs[i], pairs[i+1])
		}
		return f
	}
	b.want(b.send("POST", "/acme/token", form("code_verifier", "other"), acmeBasic()), 400, "invalid_grant")
	b.want(b.send("POST", "/acme/token", form("redirect_uri", reckless), acmeBasic()), 400, "invalid_grant")
	b.want(b.send("POST", "/acme/token", form("grant_type", "password"), acmeBasic()), 400, "unsupported_grant_type")
	b.want(b.send("POST", "/acme/token", form(), basicly("acme-sandbox-client", "x")), 401, "invalid_client")
	b.want(b.send("POST", "/acme/token", form()), 401, "invalid_client")
	b.want(b.send("POST", "/acme/token", form("client_id", "acme-sandbox-client", "client_secret", "acme-sandbox-secret")), 200)
	b.want(b.send("POST", "/acme/token", `{"grant_type":"authorization_code"}`, acmeBasic()), 400, "invalid_request")
	late := form()
	b.later(61 * time.Second)
	b.want(b.send("POST", "/acme/token", late, acmeBasic()), 400, "invalid_grant")
}

func TestStandardRotatesAndDetectsReuse(t *testing.T) {
	b := start(t, Options{})
	first := b.acmeExchange(b.acmeCode())
	second := b.want(b.acmeRefresh(first.text("refresh_token")), 200)
	third := b.want(b.acmeRefresh(second.text("refresh_token")), 200)
	b.want(b.acmeRefresh(first.text("refresh_token")), 400, "invalid_grant")
	if len(b.DoubleSpends()) != 1 {
		t.Errorf("double spends %v", b.DoubleSpends())
	}
	b.want(b.acmeRefresh(third.text("refresh_token")), 400) // the family is gone
	b.want(b.send("GET", "/acme/userinfo", nil, header("Authorization", "Bearer "+third.text("access_token"))), 401)

	code := b.acmeCode()
	tokens := b.acmeExchange(code)
	b.want(b.acmeExchange(code), 400)
	b.want(b.acmeRefresh(tokens.text("refresh_token")), 400) // a code used twice ends what it gave

	keep := start(t, Options{Standard: StandardOptions{KeepRefreshToken: true, NoExpiresIn: true, NoIss: true, NoRevoke: true}})
	issued, err := keep.Issue("acme", "acme-user-001")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		a := keep.want(keep.acmeRefresh(issued.Refresh), 200)
		if strings.Contains(a.raw, "expires_in") || strings.Contains(a.raw, "refresh_token") {
			t.Errorf("refreshed %s", a.raw)
		}
	}
}

func TestStandardRevokes(t *testing.T) {
	b := start(t, Options{})
	tokens := b.acmeExchange(b.acmeCode())
	bearer := header("Authorization", "Bearer "+tokens.text("access_token"))
	b.want(b.send("POST", "/acme/revoke", url.Values{"token": {"unknown"}}, acmeBasic()), 200)
	b.want(b.send("POST", "/acme/revoke", url.Values{"token": {tokens.text("refresh_token")}}), 401)
	b.want(b.send("POST", "/acme/revoke", url.Values{}, acmeBasic()), 400)
	b.want(b.send("GET", "/acme/userinfo", nil, bearer), 200)
	b.want(b.send("POST", "/acme/revoke", url.Values{"token": {tokens.text("refresh_token")}}, acmeBasic()), 200)
	b.want(b.send("GET", "/acme/userinfo", nil, bearer), 401)
	b.want(b.acmeRefresh(tokens.text("refresh_token")), 400)
}
