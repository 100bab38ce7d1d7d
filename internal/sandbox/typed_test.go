package sandbox

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"net/url"
	"strings"
	"testing"
	"time"
)

const (
	flexitiAt    = "/flexiti/pos-api/v2.5/"
	flexitiToken = flexitiAt + "oauth/token"
	demoSecret   = "77xde15a-9d33-4c15-930a-3se4b3as33e9"
)

func reference() with { return header("x-reference-id", "0123456789abcdef0123456789abcdef") }

func (b *bench) flexiti(pairs ...string) answer {
	f := url.Values{"client_id": {"flexitidemo"}, "client_secret": {demoSecret}}
	for i := 0; i < len(pairs); i += 2 {
		f.Set(pairs[i], pairs[i+1])
	}
	return b.send("POST", flexitiToken, f, reference())
}

func TestFlexitiTokens(t *testing.T) {
	b := start(t, Options{})
	a := b.want(b.flexiti(), 200)
	if a.text("token_type") != "bearer" || a.body["expires_in"] != 1200.0 || len(a.text("access_token")) != 40 || len(a.text("refresh_token")) != 40 || a.text("scope") != "merchant" {
		t.Errorf("minted %s", a.raw)
	}
	next := b.want(b.flexiti("grant_type", "refresh_token", "refresh_token", a.text("refresh_token")), 200)
	b.want(b.flexiti("grant_type", "refresh_token", "refresh_token", a.text("refresh_token")), 401, "invalid_token") // rotated
	if len(b.DoubleSpends()) != 1 {
		t.Errorf("double spends %v", b.DoubleSpends())
	}
	b.later(1201 * time.Second)
	b.want(b.flexiti("grant_type", "refresh_token", "refresh_token", next.text("refresh_token")), 401) // not after expiry
	b.want(b.flexiti("grant_type", "client_credentials", "scope", "customer"), 200, `"scope":"customer"`)
}

func TestFlexitiIsStrict(t *testing.T) {
	b := start(t, Options{})
	b.want(b.flexiti("client_secret", "wrong"), 400, `"error":"invalid_client"`, `"field_errors":[]`, `"url"`)
	b.want(b.flexiti("client_id", ""), 400, "invalid_client")
	b.want(b.flexiti("client_id", "notprovisioned", "client_secret", "5d24b8c1-62e0-4b93-9f17-a0c8d37e6b52"), 409, "invalid_role")
	b.want(b.flexiti("scope", "all"), 409, "wrong_inputs")
	b.want(b.flexiti("grant_type", "password"), 400, "invalid_request")
	full := url.Values{"client_id": {"flexitidemo"}, "client_secret": {demoSecret}}
	b.want(b.send("POST", flexitiToken, full), 409, "x-reference-id")
	b.want(b.send("POST", flexitiToken, full, header("x-reference-id", "01234567-89ab-cdef-0123-456789abcdef")), 409)
	b.want(b.send("POST", flexitiToken, map[string]string{"client_id": "flexitidemo", "client_secret": demoSecret}, reference()), 409)
	b.want(b.send("POST", flexitiToken+"?"+full.Encode(), url.Values{}, reference()), 409, "query string")
}

func TestFlexitiMerchantCalls(t *testing.T) {
	b := start(t, Options{})
	token := header("Authorization", "Bearer "+b.flexiti().text("access_token"))
	login := flexitiAt + "client-id/flexitidemo/merchants/login"
	who := map[string]string{"merchant_username": "acmejewellers", "merchant_password": "dice-vanila-purse"}
	a := b.want(b.send("POST", login+"?lang=fr", who, token, reference()), 200, "ACME Jewellers", `"merchant_id":"123456"`, "Québec", "occupation_id", "Retraité")
	if _, ok := a.body["form_values"].(map[string]any); !ok {
		t.Errorf("no form_values: %.200s", a.raw)
	}
	b.want(b.send("POST", login, nil, token, reference()), 200, "Quebec", "Retired")
	b.want(b.send("POST", login, map[string]string{"merchant_username": "acmejewellers", "merchant_password": "x"}, token, reference()), 401, "invalid_credentials")
	b.want(b.send("POST", login+"?lang=km", who, token, reference()), 409)
	b.want(b.send("POST", login, who, token), 409, "x-reference-id")
	b.want(b.send("POST", login, who, reference()), 401)
	b.want(b.send("POST", flexitiAt+"client-id/snowbikes/merchants/login", who, token, reference()), 403)

	list := "/flexiti/pos-api/v2.5.1/client-id/flexitidemo/authorizations?creation_date_from=2026-01-01&creation_date_to=2026-01-02&page_number=1&page_size=1"
	b.want(b.send("GET", list, nil, token, reference()), 200, "authorizations")
	b.want(b.send("GET", strings.Replace(list, "2026-01-02", "soon", 1), nil, token, reference()), 409)
	customer := header("Authorization", "Bearer "+b.flexiti("scope", "customer").text("access_token"))
	b.want(b.send("GET", list, nil, customer, reference()), 401)
	b.want(b.send("GET", flexitiAt+"client-id/flexitidemo/terms-and-conditions", nil, customer, reference()), 200)

	b.Revoke(Flexiti, "flexitidemo") // the secret is rotated in the portal
	b.want(b.flexiti(), 400, "invalid_client")
	b.want(b.send("GET", list, nil, token, reference()), 401)
	b.Restore(Flexiti, "flexitidemo")
	b.want(b.flexiti(), 200)
}

func TestBookings(t *testing.T) {
	b := start(t, Options{Bookings: BookingsOptions{PerMinute: 2}})
	first, last := SampleBookingsMerchants()[0], SampleBookingsMerchants()[2]
	body := func(id, secret string) map[string]string {
		return map[string]string{"grant_type": "client_credentials", "client_id": id, "client_secret": secret}
	}
	const at = "/bookings/api/oauth/token"
	a := b.want(b.send("POST", at, body(first.ClientID, first.ClientSecret)), 200)
	if a.text("token_type") != "Bearer" || a.body["expires_in"] != 3600.0 || len(a.body) != 3 {
		t.Errorf("answered %s", a.raw)
	}
	head, claims := b.claims(a.text("access_token"))
	if head["alg"] != "RS256" || head["kid"] != nil || claims["partner_id"] != first.PartnerID || claims["is_test"] != true || claims["sub"] != "" || len(claims["jti"].(string)) != 80 {
		t.Errorf("claims %v", claims)
	}
	if exp, iat := claims["exp"].(float64), claims["iat"].(float64); exp-iat < 3599.9 || exp-iat >= 3600 {
		t.Errorf("lives %f s", exp-iat)
	}
	key, err := b.keys.get(Bookings, 2048)
	if err != nil {
		t.Fatal(err)
	}
	input, signature, _ := cutLast(a.text("access_token"), ".")
	sum := sha256.Sum256([]byte(input))
	raw, _ := base64.RawURLEncoding.DecodeString(signature)
	if rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, sum[:], raw) != nil {
		t.Error("the signature is wrong")
	}
	_, claims = b.claims(b.send("POST", at, body(last.ClientID, last.ClientSecret)).text("access_token"))
	if claims["is_test"] != false {
		t.Errorf("claims %v", claims)
	}

	b.want(b.send("POST", at, body(first.ClientID, "wrong")), 401, `"error":"invalid_client"`, `"message":"Client authentication failed"`)
	b.want(b.send("POST", at, body("", "x")), 400, "invalid_request", "client_id")
	b.want(b.send("POST", at, map[string]string{"client_id": first.ClientID}), 400, "unsupported_grant_type")
	b.want(b.send("POST", at, url.Values{"grant_type": {"client_credentials"}}), 400, "unsupported_grant_type")
	html := b.send("POST", at, body(first.ClientID, first.ClientSecret), header("Accept", "*/*"))
	if !strings.HasPrefix(html.header.Get("Content-Type"), "text/html") {
		t.Errorf("without Accept: %d %s", html.status, html.raw)
	}
	b.want(b.send("POST", at, body(first.ClientID, first.ClientSecret)), 200)
	limited := b.want(b.send("POST", at, body(first.ClientID, first.ClientSecret)), 429)
	if limited.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	b.later(time.Minute)
	b.Revoke(Bookings, first.ClientID)
	b.want(b.send("POST", at, body(first.ClientID, first.ClientSecret)), 401)
	b.Restore(Bookings, "")
	b.want(b.send("POST", at, body(first.ClientID, first.ClientSecret)), 200)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
