package connectors_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/connectors/connectortest"
	"patchbay/internal/status"
)

// connector sets up the provider called name from settings, in which BASE stands for where the fake listens.
func connector(t *testing.T, base, name, entries string, settings map[string]string) connectors.Connector {
	t.Helper()
	fill := strings.NewReplacer("BASE", base)
	var raw []byte
	if entries != "" {
		raw = []byte(fill.Replace(entries))
	}
	get := func(key string) string { return fill.Replace(settings[key]) }
	all, err := connectors.Load(get, raw, connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.Name == name && s.Connector != nil {
			return s.Connector
		}
	}
	t.Fatalf("%s is not set up", name)
	return nil
}

func reply(w http.ResponseWriter, status int, format string, args ...any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, format, args...)
}

// jwt returns an unsigned token with these claims.
func jwt(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + part([]byte(claims)) + ".c2lnbmF0dXJl"
}

func body(r *http.Request) map[string]any {
	var m map[string]any
	json.NewDecoder(r.Body).Decode(&m)
	return m
}

// basic passes requests on that authenticate as acme:s3cret-of-the-operator.
func basic(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if id, secret, _ := r.BasicAuth(); id != "acme" || secret != "s3cret-of-the-operator" {
			reply(w, 401, `{"error":"invalid_client","error_description":"Invalid client credentials"}`)
			return
		}
		next(w, r)
	}
}

var camInvoiceSettings = map[string]string{
	"CAMINVOICE_API_URL": "BASE", "CAMINVOICE_CLIENT_ID": "acme", "CAMINVOICE_CLIENT_SECRET": "s3cret-of-the-operator",
	"CAMINVOICE_ENVIRONMENT": "sandbox",
}

func camInvoiceGood() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("POST /api/v1/auth/authorize/connect", basic(func(w http.ResponseWriter, r *http.Request) {
		if body(r)["auth_token"] != "auth-token-of-ch168" {
			reply(w, 401, `{"message":"Invalid auth token"}`)
			return
		}
		reply(w, 200, `{"access_token":"access-of-ch168","refresh_token":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
			"business_info":{"endpoint_id":"KHUID00001234","moc_id":"1234567890","company_name_en":"CH168 Co., Ltd",
			"company_name_kh":"ក្រុមហ៊ុនស៊ីអេច១៦៨","tin":"1234567890","employees":12,"refresh_token":"hidden","old_name":null,
			"branches":[{"city":"Phnom Penh <b>","api_secret":"hidden"}]}}`)
	}))
	m.HandleFunc("POST /api/v1/auth/token", basic(func(w http.ResponseWriter, r *http.Request) {
		if b := body(r); len(b) != 1 || !strings.HasPrefix(fmt.Sprint(b["refresh_token"]), "0123") {
			reply(w, 401, `{"message":"Invalid refresh token"}`)
			return
		}
		reply(w, 200, `{"token":"access-of-ch168-anew","token_type":"Bearer","expire_in":900}`)
	}))
	m.HandleFunc("POST /api/v1/auth/revoke", basic(func(w http.ResponseWriter, r *http.Request) { reply(w, 200, `{"message":"successful"}`) }))
	m.HandleFunc("POST /api/v1/configure/configure-redirect-url", basic(func(w http.ResponseWriter, r *http.Request) {}))
	m.HandleFunc("POST /api/v1/configure/configure-webhook", basic(func(w http.ResponseWriter, r *http.Request) {
		if b := body(r); len(b) != 1 || b["webhook_url"] == "" {
			reply(w, 422, `{}`)
			return
		}
		reply(w, 200, `{"message":"successful"}`)
	}))
	m.HandleFunc("DELETE /api/v1/configure/configure-webhook/KHUID00001234", basic(func(w http.ResponseWriter, r *http.Request) {
		reply(w, 200, `{"message":"successful"}`)
	}))
	m.HandleFunc("GET /api/v1/business/KHUID00001234", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer access-of-ch168" {
			reply(w, 401, `{"message":"Unauthorized"}`)
			return
		}
		reply(w, 200, `{"endpoint_id":"KHUID00001234"}`)
	})
	return m
}

func TestCamInvoice(t *testing.T) {
	connectortest.Run(t, connectortest.Case{
		Good: camInvoiceGood,
		New: func(t *testing.T, base string) connectors.Connector {
			return connector(t, base, "caminvoice", "", camInvoiceSettings)
		},
		Callback: func(string) url.Values { return url.Values{"authToken": {"auth-token-of-ch168"}} },
		Secrets:  []string{"s3cret-of-the-operator"},
		Unauthorized: map[string]status.Outcome{
			"exchange": status.ClientRejected, "refresh": status.ClientRejected, "revoke": status.ClientRejected, "probe": status.Rejected, "register-callback": status.ClientRejected, "register-hook": status.ClientRejected,
			"remove-hook": status.ClientRejected,
		},
	})
}

// elecqGood answers the authorization request with a code, for a client without a browser, or with its sign-in page.
func elecqGood(signIn bool) func() http.Handler {
	return func() http.Handler {
		m := http.NewServeMux()
		refused := func(w http.ResponseWriter, code int) {
			reply(w, 200, `{"respCode":"%d","respMsg":"Unauthorized","data":null}`, code)
		}
		guard := func(next http.HandlerFunc) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				if id, secret, _ := r.BasicAuth(); id != "client_12345" || secret != "secret_67890" {
					refused(w, 401)
					return
				}
				next(w, r)
			}
		}
		tokens := func(w http.ResponseWriter, n int) {
			now := time.Now().Unix()
			reply(w, 200, `{"respCode":"200","respMsg":"success","data":{"accessToken":%q,"refreshToken":%q,"tokenType":"Bearer",
				"accessTokenExpiresIn":86400,"refreshTokenExpiresIn":604800}}`,
				jwt(fmt.Sprintf(`{"USER_ID":"4711","n":%d,"iat":%d,"exp":%d}`, n, now, now+86400)),
				jwt(fmt.Sprintf(`{"USER_ID":"4711","aud":"refreshToken","n":%d,"iat":%d,"exp":%d}`, n, now, now+604800)))
		}
		m.HandleFunc("GET /oauth/authorize", guard(func(w http.ResponseWriter, r *http.Request) {
			q := r.URL.Query()
			if q.Get("clientId") != "client_12345" || q.Get("responseType") != "code" || q.Get("redirectUri") == "" {
				refused(w, 400)
				return
			}
			if signIn {
				http.Redirect(w, r, "/sign-in?ticket=1", http.StatusFound)
				return
			}
			http.Redirect(w, r, q.Get("redirectUri")+"?code=code-of-the-merchant", http.StatusFound)
		}))
		m.HandleFunc("POST /oauth/token", guard(func(w http.ResponseWriter, r *http.Request) {
			if b := body(r); len(b) != 1 || b["authorizationCode"] != "code-of-the-merchant" {
				refused(w, 401)
				return
			}
			tokens(w, 1)
		}))
		m.HandleFunc("POST /oauth/refresh", guard(func(w http.ResponseWriter, r *http.Request) {
			if b := body(r); len(b) != 1 || b["refreshToken"] == "" {
				refused(w, 401)
				return
			}
			tokens(w, 2)
		}))
		return m
	}
}

func elecqSettings(how string) map[string]string {
	s := map[string]string{
		"ELECQ_AUTHORIZE_URL": "BASE/oauth/authorize", "ELECQ_TOKEN_URL": "BASE/oauth/token", "ELECQ_REFRESH_URL": "BASE/oauth/refresh",
		"ELECQ_AUTHORIZE": how, "ELECQ_ENVIRONMENT": "sandbox",
	}
	if how != "credentials" {
		s["ELECQ_CLIENT_ID"], s["ELECQ_CLIENT_SECRET"] = "client_12345", "secret_67890"
	}
	return s
}

func TestElecq(t *testing.T) {
	for _, how := range []string{"browser", "server", "credentials"} {
		t.Run(how, func(t *testing.T) {
			c := connectortest.Case{
				Good: elecqGood(how == "server"),
				New: func(t *testing.T, base string) connectors.Connector {
					return connector(t, base, "elecq", "", elecqSettings(how))
				},
				Callback:     func(string) url.Values { return url.Values{"code": {"code-of-the-merchant"}} },
				Secrets:      []string{"secret_67890"},
				Unauthorized: map[string]status.Outcome{"authorize": status.ClientRejected, "exchange": status.ClientRejected, "refresh": status.Rejected},
				Redirects:    func(path string) bool { return path == "/oauth/authorize" },
			}
			if how == "credentials" {
				c.Inputs = map[string]string{"client_id": "client_12345", "client_secret": "secret_67890"}
				c.Unauthorized = map[string]status.Outcome{"authenticate": status.InvalidInput, "refresh": status.Rejected}
			}
			connectortest.Run(t, c)
		})
	}
}

func flexitiGood() http.Handler {
	m := http.NewServeMux()
	referenced := func(r *http.Request) bool {
		ref := r.Header.Get("X-Reference-Id")
		return len(ref) == 32 && strings.Trim(ref, "0123456789abcdef") == ""
	}
	m.HandleFunc("POST /flexiti/pos-api/v2.5/oauth/token", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !referenced(r), r.Header.Get("Content-Type") != "application/x-www-form-urlencoded", r.URL.RawQuery != "":
			reply(w, 409, `{"error":"wrong_inputs"}`)
		case r.PostFormValue("client_id") == "unprovisioned":
			reply(w, 409, `{"error":"invalid_role","message":"…"}`)
		case r.PostFormValue("client_id") != "flexitidemo", r.PostFormValue("client_secret") != "77xde15a-9d33-4c15-930a-3se4b3as33e9":
			reply(w, 400, `{"error":"invalid_client","message":"…"}`)
		case r.PostFormValue("grant_type") == "refresh_token" && r.PostFormValue("refresh_token") != strings.Repeat("b", 40):
			reply(w, 400, `{"error":"invalid_request"}`)
		default:
			reply(w, 200, `{"token_type":"bearer","access_token":"%s","expires_in":1200,"refresh_token":"%s","scope":"%s"}`,
				strings.Repeat("a", 40), strings.Repeat("b", 40), r.PostFormValue("scope"))
		}
	})
	m.HandleFunc("POST /flexiti/pos-api/v2.5/client-id/flexitidemo/merchants/login", func(w http.ResponseWriter, r *http.Request) {
		b := body(r)
		if !referenced(r) || b["merchant_username"] != "acmejewellers" || b["merchant_password"] != "dice-vanila-purse" {
			reply(w, 401, `{"error":"invalid_credentials"}`)
			return
		}
		name := map[string]string{"en": "ACME Jewellers", "fr": "Bijoutiers ACME"}[r.URL.Query().Get("lang")]
		reply(w, 200, `{"merchant_name":%q,"merchant_id":123456,"form_values":{"province":{"options":{"QC":"Québec"}}},
			"occupation_id":{"options":{"FE":"Full-time"}}}`, name)
	})
	return m
}

var flexitiSettings = map[string]string{"FLEXITI_API_URL": "BASE/flexiti/pos-api", "FLEXITI_ENVIRONMENT": "sandbox"}

func flexitiInputs() map[string]string {
	return map[string]string{
		"client_id": "flexitidemo", "client_secret": "77xde15a-9d33-4c15-930a-3se4b3as33e9", "scope": "customer",
		"merchant_username": "acmejewellers", "merchant_password": "dice-vanila-purse",
	}
}

func TestFlexiti(t *testing.T) {
	connectortest.Run(t, connectortest.Case{
		Good: flexitiGood,
		New: func(t *testing.T, base string) connectors.Connector {
			return connector(t, base, "flexiti", "", flexitiSettings)
		},
		Inputs:       flexitiInputs(),
		Secrets:      []string{flexitiInputs()["merchant_username"]},
		Unauthorized: map[string]status.Outcome{"authenticate": status.Temporary, "refresh": status.Temporary},
		Optional:     func(op string, step int) bool { return op == "authenticate" && step == 2 },
	})
}

const (
	bookingsID     = "9b1e82a7-0a59-4e7e-add5-b9ffa37aade1"
	bookingsSecret = "Tn1xOq0aYhU2vGm3CjKz4bWsRd5EpLf6iQ7yX8uA"
)

func bookingsGood(isTest bool) func() http.Handler {
	return func() http.Handler {
		m := http.NewServeMux()
		m.HandleFunc("POST /api/oauth/token", func(w http.ResponseWriter, r *http.Request) {
			b := body(r)
			switch {
			case r.Header.Get("Accept") != "application/json" || r.Header.Get("Content-Type") != "application/json":
				http.Redirect(w, r, "/login", http.StatusFound)
			case b["grant_type"] != "client_credentials" || len(b) != 3:
				reply(w, 400, `{"error":"unsupported_grant_type"}`)
			case b["client_id"] != bookingsID || b["client_secret"] != bookingsSecret:
				reply(w, 401, `{"error":"invalid_client","error_description":"Client authentication failed","message":"Client authentication failed"}`)
			default:
				reply(w, 200, `{"token_type":"Bearer","expires_in":3600,"access_token":%q}`, jwt(fmt.Sprintf(
					`{"aud":%q,"iat":1710220031.583112,"nbf":1710220031.583114,"exp":1710223631.577478,"sub":"",
					"scopes":["bookings:create","bookings:delete"],"user_id":"842902db-54e5-4614-b348-002e8ce5da12",
					"partner_id":"f31120ee-b5cb-41c4-9529-288d02e91cd6","is_test":%t}`, bookingsID, isTest)))
			}
		})
		return m
	}
}

var bookingsSettings = map[string]string{"BOOKINGS_API_URL": "BASE", "BOOKINGS_ENVIRONMENT": "production", "BOOKINGS_TITLE": "Stay Here"}

func TestBookings(t *testing.T) {
	connectortest.Run(t, connectortest.Case{
		Good: bookingsGood(false),
		New: func(t *testing.T, base string) connectors.Connector {
			return connector(t, base, "bookings", "", bookingsSettings)
		},
		Inputs:       map[string]string{"client_id": bookingsID, "client_secret": bookingsSecret},
		Unauthorized: map[string]status.Outcome{"authenticate": status.InvalidInput, "refresh": status.Rejected, "probe": status.Rejected},
	})
}

// issuer is a standard provider. Its codes carry challenge and nonce, so that it keeps no state.
type issuer struct {
	key    *rsa.PrivateKey
	claims func(base, nonce string) string // of the ID token; nil for none
	post   bool
}

func newIssuer(t *testing.T) *issuer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return &issuer{key: key, claims: func(base, nonce string) string {
		return fmt.Sprintf(`{"iss":%q,"aud":"a c:me","sub":"merchant-7","nonce":%q,"name":"Acme Shop","email":"shop@example.com","iat":%d,"exp":%d}`,
			base, nonce, time.Now().Unix(), time.Now().Unix()+300)
	}}
}

func (i *issuer) sign(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	signed := part([]byte(`{"alg":"RS256","kid":"k1"}`)) + "." + part([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		return ""
	}
	return signed + "." + part(sig)
}

func (i *issuer) handler() http.Handler {
	m := http.NewServeMux()
	m.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		base := "http://" + r.Host
		reply(w, 200, `{"issuer":%q,"authorization_endpoint":"%[2]s/authorize?tenant=1","token_endpoint":"%[2]s/token",
			"revocation_endpoint":"%[2]s/revoke","userinfo_endpoint":"%[2]s/userinfo","jwks_uri":"%[2]s/keys",
			"id_token_signing_alg_values_supported":["RS256","none"],"authorization_response_iss_parameter_supported":true}`, base, base)
	})
	m.HandleFunc("GET /keys", func(w http.ResponseWriter, r *http.Request) {
		part := base64.RawURLEncoding.EncodeToString
		reply(w, 200, `{"keys":[{"kty":"RSA","kid":"k1","use":"sig","n":%q,"e":%q}]}`,
			part(i.key.N.Bytes()), part(big.NewInt(int64(i.key.E)).Bytes()))
	})
	client := func(next http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			id, secret, _ := r.BasicAuth()
			id, _ = url.QueryUnescape(id)
			secret, _ = url.QueryUnescape(secret)
			if i.post {
				id, secret = r.PostFormValue("client_id"), r.PostFormValue("client_secret")
			}
			if id != "a c:me" || secret != "s3cret&of+acme" {
				reply(w, 401, `{"error":"invalid_client"}`)
				return
			}
			next(w, r)
		}
	}
	m.HandleFunc("POST /token", client(func(w http.ResponseWriter, r *http.Request) {
		if r.PostFormValue("grant_type") == "refresh_token" {
			if r.PostFormValue("refresh_token") != "refresh-of-acme" {
				reply(w, 400, `{"error":"invalid_grant"}`)
				return
			}
			reply(w, 200, `{"access_token":"access-of-acme-anew","token_type":"bearer","expires_in":"1800"}`)
			return
		}
		challenge, nonce, _ := strings.Cut(strings.TrimPrefix(r.PostFormValue("code"), "code."), ".")
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if challenge != base64.RawURLEncoding.EncodeToString(sum[:]) || r.PostFormValue("redirect_uri") == "" {
			reply(w, 400, `{"error":"invalid_grant"}`)
			return
		}
		idToken := ""
		if i.claims != nil {
			idToken = i.sign(i.claims("http://"+r.Host, nonce))
		}
		reply(w, 200, `{"access_token":"access-of-acme","refresh_token":"refresh-of-acme","token_type":"bearer","expires_in":3600,"id_token":%q}`, idToken)
	}))
	m.HandleFunc("POST /revoke", client(func(w http.ResponseWriter, r *http.Request) {}))
	m.HandleFunc("GET /userinfo", func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer access-of-acme") {
			reply(w, 401, `{}`)
			return
		}
		reply(w, 200, `{"sub":"merchant-7","name":"Acme Shop","email":"shop@example.com"}`)
	})
	return m
}

// visit acts as the browser and returns the callback of an authorization address.
func visit(location string) url.Values {
	u, _ := url.Parse(location)
	q := u.Query()
	return url.Values{
		"code": {"code." + q.Get("code_challenge") + "." + q.Get("nonce")}, "state": {q.Get("state")}, "iss": {u.Scheme + "://" + u.Host},
	}
}

const (
	byIssuer = `[{"name":"acme","title":"Acme","issuer":"BASE","client_id":"a c:me","client_secret_env":"ACME_SECRET",
		"scopes":["openid","orders.read"],"environment":"production","keep_alive":"24h"}]`
	byAddress = `[{"name":"acme","title":"Acme","authorize_url":"BASE/authorize","token_url":"BASE/token","revoke_url":"BASE/revoke",
		"userinfo_url":"BASE/userinfo","client_id":"a c:me","client_secret_env":"ACME_SECRET","client_auth":"post",
		"scopes":["orders.read"],"environment":"sandbox","replay_safe":true}]`
)

var acmeSettings = map[string]string{"ACME_SECRET": "s3cret&of+acme"}

func TestStandard(t *testing.T) {
	for name, entries := range map[string]string{"issuer": byIssuer, "addresses": byAddress} {
		t.Run(name, func(t *testing.T) {
			i := newIssuer(t)
			i.post = name == "addresses"
			connectortest.Run(t, connectortest.Case{
				Good: i.handler,
				New: func(t *testing.T, base string) connectors.Connector {
					return connector(t, base, "acme", entries, acmeSettings)
				},
				Callback: visit,
				Secrets:  []string{"s3cret&of+acme"},
				// A 401 without a code is a proxy's as often as the provider's.
				Unauthorized: map[string]status.Outcome{"exchange": status.Temporary, "refresh": status.Temporary, "revoke": status.Temporary},
				Optional:     func(op string, step int) bool { return op == "revoke" && step == 2 },
				Nameless:     func(op, path string) bool { return op == "exchange" && path == "/userinfo" },
			})
		})
	}
}
