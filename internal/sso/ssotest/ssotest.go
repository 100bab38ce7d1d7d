// Package ssotest imitates a platform's OpenID Connect provider for tests: it signs in whom the test says, and misbehaves as the test
// asks.
package ssotest

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"time"
)

// The client that the issuer knows.
const (
	ClientID     = "patchbay"
	ClientSecret = "the client's secret: 100%, long enough"
)

// AccessToken is what it issues.
const AccessToken = "opaque-access-token"

// Issuer is a provider on this machine. Its fields may be changed between requests.
type Issuer struct {
	URL string

	mu       sync.Mutex
	person   map[string]any // claims of who signs in
	userinfo map[string]any // nil: there is no userinfo endpoint
	tamper   func(header, claims map[string]any)
	signer   func(signed []byte) []byte // nil: the issuer's key
	answers  map[string]http.HandlerFunc
	metadata map[string]any // added to what is published
	codes    map[string]url.Values
	key      *rsa.PrivateKey
	now      func() time.Time
	server   *httptest.Server
}

// key makes the key of all issuers: making one takes a while.
var key = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

// New starts an issuer. now is its clock; nil for the time.
func New(t testing.TB, now func() time.Time) *Issuer {
	t.Helper()
	key, err := key()
	if err != nil {
		t.Fatal(err)
	}
	if now == nil {
		now = time.Now
	}
	i := &Issuer{key: key, now: now, codes: map[string]url.Values{}, answers: map[string]http.HandlerFunc{}, metadata: map[string]any{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discovery)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("GET /keys", i.keys)
	mux.HandleFunc("GET /userinfo", i.info)
	i.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		answer := i.answers[r.URL.Path]
		i.mu.Unlock()
		if answer != nil {
			answer(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	i.URL = i.server.URL
	t.Cleanup(i.server.Close)
	return i
}

// Person sets the claims of who signs in from now on.
func (i *Issuer) Person(claims map[string]any) { i.with(func() { i.person = claims }) }

// Userinfo sets the claims of the userinfo endpoint.
func (i *Issuer) Userinfo(claims map[string]any) { i.with(func() { i.userinfo = claims }) }

// Publish adds to the metadata.
func (i *Issuer) Publish(name string, value any) { i.with(func() { i.metadata[name] = value }) }

// Tamper has ID tokens changed before they are signed.
func (i *Issuer) Tamper(change func(header, claims map[string]any)) {
	i.with(func() { i.tamper = change })
}

// SignWith has ID tokens signed by another than the issuer's key.
func (i *Issuer) SignWith(signer func(signed []byte) []byte) { i.with(func() { i.signer = signer }) }

// Answer has a path answered otherwise; nil as before.
func (i *Issuer) Answer(path string, answer http.HandlerFunc) {
	i.with(func() { i.answers[path] = answer })
}

func (i *Issuer) with(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// HMAC signs as HS256 does.
func HMAC(secret []byte) func([]byte) []byte {
	return func(signed []byte) []byte {
		sum := hmac.New(sha256.New, secret)
		sum.Write(signed)
		return sum.Sum(nil)
	}
}

// Modulus is the public key's, as keys publishes it.
func (i *Issuer) Modulus() []byte { return i.key.N.Bytes() }

func (i *Issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	all := map[string]any{
		"issuer": i.URL, "authorization_endpoint": i.URL + "/authorize", "token_endpoint": i.URL + "/token", "jwks_uri": i.URL + "/keys",
		"response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		"id_token_signing_alg_values_supported":          []string{"RS256"},
		"authorization_response_iss_parameter_supported": true,
	}
	if i.userinfo != nil {
		all["userinfo_endpoint"] = i.URL + "/userinfo"
	}
	maps.Copy(all, i.metadata)
	send(w, http.StatusOK, all)
}

// authorize signs the person in without a question.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("client_id") != ClientID || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("state") == "" || q.Get("nonce") == "" {
		http.Error(w, "not a request for a code with PKCE, state and nonce", http.StatusBadRequest)
		return
	}
	code := rand.Text()
	i.with(func() { i.codes[code] = q })
	back := url.Values{"code": {code}, "state": {q.Get("state")}, "iss": {i.URL}}
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+back.Encode(), http.StatusFound)
}

func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	user, password, _ := r.BasicAuth()
	if user == "" {
		user, password = url.QueryEscape(r.PostFormValue("client_id")), url.QueryEscape(r.PostFormValue("client_secret"))
	}
	if user != ClientID || password != url.QueryEscape(ClientSecret) { // RFC 6749 section 2.3.1
		send(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	asked, ok := i.codes[r.PostFormValue("code")]
	delete(i.codes, r.PostFormValue("code"))
	challenge := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
	if !ok || base64.RawURLEncoding.EncodeToString(challenge[:]) != asked.Get("code_challenge") || r.PostFormValue("redirect_uri") != asked.Get("redirect_uri") {
		send(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
		return
	}
	header := map[string]any{"alg": "RS256", "kid": "1"}
	claims := map[string]any{"iss": i.URL, "aud": ClientID, "exp": i.now().Add(time.Minute).Unix(), "iat": i.now().Unix(), "nonce": asked.Get("nonce")}
	maps.Copy(claims, i.person)
	if i.tamper != nil {
		i.tamper(header, claims)
	}
	signed := encode(header) + "." + encode(claims)
	signature := i.sign([]byte(signed))
	send(w, http.StatusOK, map[string]any{
		"access_token": AccessToken, "token_type": "Bearer", "expires_in": 60, "id_token": signed + "." + base64.RawURLEncoding.EncodeToString(signature),
	})
}

func (i *Issuer) sign(signed []byte) []byte {
	if i.signer != nil {
		return i.signer(signed)
	}
	sum := sha256.Sum256(signed)
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return signature
}

func (i *Issuer) keys(w http.ResponseWriter, _ *http.Request) {
	send(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "kid": "1", "n": base64.RawURLEncoding.EncodeToString(i.Modulus()),
		"e": base64.RawURLEncoding.EncodeToString(big.NewInt(int64(i.key.E)).Bytes()),
	}}})
}

func (i *Issuer) info(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+AccessToken {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	all := map[string]any{"sub": i.person["sub"]}
	maps.Copy(all, i.userinfo)
	send(w, http.StatusOK, all)
}

func send(w http.ResponseWriter, status int, body map[string]any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the caller may have gone
}

func encode(part map[string]any) string {
	b, err := json.Marshal(part)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
