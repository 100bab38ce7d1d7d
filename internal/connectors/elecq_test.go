package connectors_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

func TestElecqEnvelope(t *testing.T) {
	for answer, want := range map[string]status.Outcome{
		`200 {"respCode":"200","data":{"accessToken":"T"}}`:                    status.OK,
		`200 {"respCode":"000000","data":{"accessToken":"T"}}`:                 status.OK,
		`200 {"respCode":200,"data":{"accessToken":"T"}}`:                      status.OK,
		`200 {"data":{"accessToken":"T"}}`:                                     status.OK,
		`200 {"respCode":"401","respMsg":"Unauthorized","data":null}`:          status.Rejected,
		`401 {"respCode":"401","respMsg":"Unauthorized","data":null}`:          status.Rejected,
		`200 {"respCode":"401","respMsg":"Invalid client","data":null}`:        status.ClientRejected,
		`200 {"respCode":"400","respMsg":"refresh token expired","data":null}`: status.Rejected,
		`200 {"respCode":"400","respMsg":"Bad Request","data":null}`:           status.Temporary,
		`200 {"respCode":"429","respMsg":"slow down","data":null}`:             status.RateLimited,
		`200 {"respCode":"500","respMsg":"token service expired","data":null}`: status.Temporary,
		`200 {"respCode":"500","respMsg":"x","data":{"accessToken":"T"}}`:      status.Temporary,
		`500 {"respCode":"401","respMsg":"Unauthorized","data":null}`:          status.Temporary,
		`200 {"respCode":["200"],"data":{"accessToken":"T"}}`:                  status.Temporary,
	} {
		code := 0
		fmt.Sscanf(answer, "%d", &code)
		base := serve(t, map[string]http.HandlerFunc{"POST /oauth/refresh": says(code, "%s", answer[4:])})
		token, err := connector(t, base, "elecq", "", elecqSettings("browser")).Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}})
		if got := connectors.OutcomeOf(err); got != want || (token.Access != "") != (want == status.OK) {
			t.Errorf("%s: %s, want %s", answer, got, want)
		}
	}
}

// Whether a refresh extends the seven days is not documented: only the token's own exp may move its end.
func TestElecqRefreshLifetime(t *testing.T) {
	now := time.Now().Unix()
	soon := jwt(fmt.Sprintf(`{"iat":%d,"exp":%d}`, now-600000, now+4800))
	for name, c := range map[string]struct {
		answer, refresh string
		want            time.Duration
	}{
		"the same, opaque": {`"refreshToken":"R","refreshTokenExpiresIn":604800`, "R", 0},
		"none":             {`"refreshTokenExpiresIn":604800`, "", 0},
		"new, opaque":      {`"refreshToken":"R2","refreshTokenExpiresIn":3600`, "R2", time.Hour},
		"new, untold":      {`"refreshToken":"R2"`, "R2", 604800 * time.Second},
		"the same, JWT":    {fmt.Sprintf(`"refreshToken":%q,"refreshTokenExpiresIn":604800`, soon), soon, 80 * time.Minute},
	} {
		base := serve(t, map[string]http.HandlerFunc{"POST /oauth/refresh": says(200, `{"respCode":"200","data":{"accessToken":"T",%s}}`, c.answer)})
		token, err := connector(t, base, "elecq", "", elecqSettings("browser")).Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}})
		if err != nil || token.Refresh != c.refresh || (token.RefreshLifetime-c.want).Abs() > 3*time.Second {
			t.Errorf("%s: %s, want %s; %v", name, token.RefreshLifetime, c.want, err)
		}
	}
}

func TestElecqServerBegin(t *testing.T) {
	callback := "https://connect.example.com/connect/elecq/callback"
	for location, want := range map[string]status.Outcome{
		"https://elecq.example/login?x=1": status.OK,
		"/login":                          status.OK,
		callback + "?code=C":              status.ClientRejected,
		"https://CONNECT.example.com:443/connect/elecq/callback/?code=C": status.ClientRejected,
		"javascript:alert(1)": status.Temporary,
		"":                    status.Temporary,
	} {
		base := serve(t, map[string]http.HandlerFunc{"GET /oauth/authorize": func(w http.ResponseWriter, r *http.Request) {
			if location != "" {
				w.Header().Set("Location", location)
			}
			w.WriteHeader(302)
		}})
		c := connector(t, base, "elecq", "", elecqSettings("server")).(connectors.Redirector)
		got, err := c.AuthorizationURL(t.Context(), connectors.Flow{State: "S", CallbackURL: callback})
		if connectors.OutcomeOf(err) != want || (got != "") != (want == status.OK) {
			t.Errorf("%q: %q, %v", location, got, err)
		}
	}
}

func TestElecqBrowser(t *testing.T) {
	c := connector(t, "http://127.0.0.1:1", "elecq", "", elecqSettings("browser")).(connectors.Redirector)
	location, err := c.AuthorizationURL(t.Context(), connectors.Flow{State: "S", CallbackURL: "https://x.example/cb"})
	want := "http://127.0.0.1:1/oauth/authorize?clientId=client_12345&redirectUri=https%3A%2F%2Fx.example%2Fcb&responseType=code&state=S"
	if location != want || err != nil {
		t.Errorf("%s, %v", location, err)
	}
	for query, want := range map[string]string{"code=A&authorizationCode=B": "A", "authorizationCode=B": "B", "code=&authorizationCode=B": "B", "": ""} {
		q, _ := url.ParseQuery(query)
		if got := c.Code(q); got != want {
			t.Errorf("%s: %q", query, got)
		}
	}
}

func TestElecqAccount(t *testing.T) {
	s := httptest.NewServer(elecqGood(false)())
	t.Cleanup(s.Close)
	c := connector(t, s.URL, "elecq", "", elecqSettings("credentials")).(connectors.CredentialConnector)
	g, err := c.Authenticate(t.Context(), connectors.Flow{CallbackURL: "https://x.example/cb"},
		map[string]string{"client_id": "client_12345", "client_secret": "secret_67890"})
	if err != nil || g.Account.ID != "4711" {
		t.Fatalf("%+v, %v", g.Account, err)
	}
	_, err = c.Authenticate(t.Context(), connectors.Flow{CallbackURL: "https://x.example/cb"},
		map[string]string{"client_id": "client_12345", "client_secret": "wrong"})
	if err == nil || err.Error() != "client_secret: refused" {
		t.Errorf("a wrong secret: %v", err)
	}
	// With its refresh token gone it authorizes again.
	g.Refresh = ""
	if token, err := c.Refresh(t.Context(), g); err != nil || token.Access == "" {
		t.Errorf("authorising again: %v", err)
	}
}

func TestElecqAuthorisesAgainAfterARefusal(t *testing.T) {
	refusals := 0
	base := serve(t, map[string]http.HandlerFunc{
		"POST /oauth/refresh": func(w http.ResponseWriter, r *http.Request) {
			refusals++
			reply(w, 200, `{"respCode":"401","respMsg":"Unauthorized","data":null}`)
		},
		"GET /oauth/authorize": says(200, `{"respCode":"200","data":{"authorizationCode":"C"}}`), // the "directly" twin
		"POST /oauth/token":    says(200, `{"respCode":"000000","data":{"accessToken":"T2","refreshToken":"R2"}}`),
	})
	c := connector(t, base, "elecq", "", elecqSettings("credentials"))
	token, err := c.Refresh(t.Context(), connectors.Grant{
		Token: connectors.Token{Refresh: "R"}, Inputs: map[string]string{"client_id": "i", "client_secret": "s", "callback_url": "https://x.example/cb"},
	})
	if err != nil || token.Access != "T2" || token.Refresh != "R2" || refusals != 1 {
		t.Errorf("%v after %d refusals", err, refusals)
	}
}
