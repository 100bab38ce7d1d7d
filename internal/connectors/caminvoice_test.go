package connectors_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// serve starts a provider that answers path with handle, everything else with 404.
func serve(t *testing.T, routes map[string]http.HandlerFunc) string {
	t.Helper()
	m := http.NewServeMux()
	for pattern, handle := range routes {
		m.HandleFunc(pattern, handle)
	}
	s := httptest.NewServer(m)
	t.Cleanup(s.Close)
	return s.URL
}

func says(status int, format string, args ...any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { reply(w, status, format, args...) }
}

func TestCamInvoiceRefreshWordings(t *testing.T) {
	day := time.Date(2026, 5, 7, 1, 22, 57, 0, time.UTC)
	for name, c := range map[string]struct {
		answer string
		want   time.Duration
	}{
		"reference page":           {`{"token":"T","token_type":"Bearer","expire_in":900}`, 900 * time.Second},
		"government's sample":      {`{"access_token":"T","expire_at":"2026-05-07T02:22:57Z"}`, time.Hour},
		"all at once":              {`{"access_token":"T","expireIn":"15m","expire_at":"2026-05-07T01:37:57.510Z"}`, 15*time.Minute + 510*time.Millisecond},
		"expired_at":               {`{"access_token":"T","expired_at":"2026-05-07T01:37:57.000Z"}`, 15 * time.Minute},
		"expires_at":               {`{"access_token":"T","expires_at":"2026-05-07 01:37:57"}`, 15 * time.Minute},
		"expires_at, epoch":        {fmt.Sprintf(`{"access_token":"T","expires_at":%d}`, day.Unix()+60), time.Minute},
		"expires_at, epoch text":   {fmt.Sprintf(`{"access_token":"T","expires_at":"%d"}`, day.Unix()+60), time.Minute},
		"expires_at, milliseconds": {fmt.Sprintf(`{"access_token":"T","expires_at":%d000}`, day.Unix()+60), time.Minute},
		"numeric text":             {`{"access_token":"T","expires_in":"3600"}`, time.Hour},
		"a day":                    {`{"access_token":"T","expires_in":"1d"}`, 24 * time.Hour},
		"an hour":                  {`{"access_token":"T","expires_in":"1 hour"}`, time.Hour},
		"float":                    {`{"access_token":"T","expireIn":899.5}`, 899500 * time.Millisecond},
		"nothing":                  {`{"access_token":"T"}`, 900 * time.Second},
		"negative":                 {`{"access_token":"T","expires_in":-5}`, 900 * time.Second},
		"absurd":                   {`{"access_token":"T","expires_in":1e300}`, 900 * time.Second},
		"past":                     {`{"access_token":"T","expire_at":"2020-01-01T00:00:00Z","expire_in":60}`, time.Minute},
		"JWT":                      {fmt.Sprintf(`{"access_token":%q}`, jwt(fmt.Sprintf(`{"iat":%d,"exp":%d,"expire_in":"1d"}`, day.Unix(), day.Unix()+86400))), 24 * time.Hour},
		"byte order mark":          {"\ufeff" + `{"access_token":"T","expires_in":60}`, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			base := serve(t, map[string]http.HandlerFunc{"POST /api/v1/auth/token": func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Date", day.Format(http.TimeFormat)) // the provider's clock is what counts
				reply(w, 200, "%s", c.answer)
			}})
			token, err := connector(t, base, "caminvoice", "", camInvoiceSettings).Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}})
			if err != nil || token.Access == "" || token.Lifetime != c.want || token.Refresh != "" {
				t.Errorf("lifetime %s, want %s; %v", token.Lifetime, c.want, err)
			}
		})
	}
}

func TestCamInvoiceRefreshAtTheOlderAddress(t *testing.T) {
	for _, status := range []int{404, 405} {
		base := serve(t, map[string]http.HandlerFunc{
			"POST /api/v1/auth/token": says(status, "<h1>no</h1>"),
			"POST /api/v1/token":      says(200, `{"token":"T"}`),
		})
		token, err := connector(t, base, "caminvoice", "", camInvoiceSettings).Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}})
		if err != nil || token.Access != "T" {
			t.Errorf("after %d: %v", status, err)
		}
	}
}

func TestCamInvoiceRefusals(t *testing.T) {
	for answer, want := range map[string]status.Outcome{
		`401 {"message":"Invalid refresh token"}`:                                         status.Rejected,
		`401 {"error":"invalid_grant"}`:                                                   status.Rejected,
		`400 {"error":"invalid_grant","error_description":"revoked"}`:                     status.Rejected,
		`401 {"message":["token expired"]}`:                                               status.Rejected,
		`401 {"error":"invalid_client","error_description":"Invalid client credentials"}`: status.ClientRejected,
		`401 {"error":"Unauthorized","error_description":"Invalid client credentials"}`:   status.ClientRejected,
		`401 {"message":"Unauthorized"}`:                                                  status.ClientRejected,
		`401 nginx`:                                                                       status.ClientRejected,
		`403 {"message":"too many clients with an expired refresh token"}`:                status.Temporary,
		`422 {"message":"validation"}`:                                                    status.Temporary,
		`500 {"error":"invalid_grant"}`:                                                   status.Temporary,
		`200 {"message":"successful"}`:                                                    status.Temporary,
		`404 {"error":"invalid_grant"}`:                                                   status.Rejected,
	} {
		status, body := 0, ""
		fmt.Sscanf(answer, "%d", &status)
		body = answer[4:]
		base := serve(t, map[string]http.HandlerFunc{"POST /api/v1/auth/token": says(status, "%s", body)})
		_, err := connector(t, base, "caminvoice", "", camInvoiceSettings).Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}})
		if got := connectors.OutcomeOf(err); got != want {
			t.Errorf("%s: %s, want %s", answer, got, want)
		}
	}
}

func TestCamInvoiceAccount(t *testing.T) {
	s := httptest.NewServer(camInvoiceGood())
	t.Cleanup(s.Close)
	c := connector(t, s.URL, "caminvoice", "", camInvoiceSettings).(connectors.Redirector)
	g, err := c.Exchange(t.Context(), connectors.Flow{}, url.Values{"authToken": {"auth-token-of-ch168"}})
	if err != nil {
		t.Fatal(err)
	}
	want := connectors.Account{ID: "KHUID00001234", Name: "CH168 Co., Ltd", Details: []connectors.Detail{
		{Key: "endpoint_id", Value: "KHUID00001234"},
		{Key: "moc_id", Value: "1234567890"},
		{Key: "company_name_en", Value: "CH168 Co., Ltd"},
		{Key: "company_name_kh", Value: "ក្រុមហ៊ុនស៊ីអេច១៦៨"},
		{Key: "tin", Value: "1234567890"},
		{Key: "branches", Value: `[{"city":"Phnom Penh <b>"}]`},
		{Key: "employees", Value: "12"},
		{Key: "old_name", Value: ""},
	}}
	if diff := cmp.Diff(want, g.Account); diff != "" {
		t.Error(diff)
	}
}

func TestCamInvoiceAccountElsewhere(t *testing.T) {
	claimed := jwt(`{"endpoint_id":"KHUID7"}`)
	for answer, want := range map[string]string{
		`{"access_token":"T","userProfile":{"business_info":{"endpoint_id":"KHUID1"}}}`: "KHUID1",
		`{"access_token":"T","data":{"business_info":{"endpoint_id":"KHUID2"}}}`:        "KHUID2",
		`{"access_token":"T","userProfile":{"endpoint_id":"KHUID3"}}`:                   "KHUID3",
		`{"data":{"access_token":"T","business_info":{"endpoint_id":"KHUID4"}}}`:        "KHUID4",
		`{"access_token":"` + claimed + `","business_info":{"tin":"1"}}`:                "KHUID7",
		`{"access_token":"T"}`: "",
		`{"access_token":"T","business_info":{"endpoint_id":["KHUID1"]}}`:                         "",
		`{"access_token":"T","business_info":{"endpoint_id":"` + strings.Repeat("K", 300) + `"}}`: "",
	} {
		base := serve(t, map[string]http.HandlerFunc{"POST /api/v1/auth/authorize/connect": says(200, "%s", answer)})
		c := connector(t, base, "caminvoice", "", camInvoiceSettings).(connectors.Redirector)
		g, err := c.Exchange(t.Context(), connectors.Flow{}, url.Values{"authToken": {"A"}})
		if g.Account.ID != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", answer, g.Account.ID, err)
		}
	}
}

func TestCamInvoiceCallbacks(t *testing.T) {
	c := connector(t, "http://127.0.0.1:1", "caminvoice", "", camInvoiceSettings).(connectors.Redirector)
	for query, want := range map[string]string{
		"authToken=A":             "A",
		"a=b?authToken=A":         "A",
		"a=b?authToken=A&state=S": "A",
		"?authToken=A&state=S":    "A",
		"state=S?authToken=A":     "A",
		"auth_token=A":            "",
		"a=authToken":             "",
	} {
		q, _ := url.ParseQuery(query)
		if got := c.Code(q); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	q, _ := url.ParseQuery("state=S?authToken=A")
	if got := connectors.FixDoubledQuery(q).Get("state"); got != "S" {
		t.Errorf("state is %q", got)
	}
	location, err := c.AuthorizationURL(t.Context(), connectors.Flow{State: "S", CallbackURL: "https://x.example/connect/caminvoice/callback"})
	if want := "http://127.0.0.1:1/connect?client_id=acme&redirect_url=https%3A%2F%2Fx.example%2Fconnect%2Fcaminvoice%2Fcallback&state=S"; location != want || err != nil {
		t.Errorf("%s, want %s; %v", location, want, err)
	}
}

func TestCamInvoiceRevoke(t *testing.T) {
	for answer, want := range map[string]status.Outcome{
		`200 {"message":"successful"}`:      status.OK,
		`200 `:                              status.OK,
		`200 <html>`:                        status.Temporary,
		`403 {"message":"Already revoked"}`: status.OK,
		`404 {"message":"member was already removed"}`: status.OK,
		`403 {"message":"Forbidden"}`:                  status.Rejected,
		`403 <html>`:                                   status.Temporary,
		`404 {"message":"not found"}`:                  status.Temporary,
		`401 {"message":"Unauthorized"}`:               status.ClientRejected,
	} {
		status := 0
		fmt.Sscanf(answer, "%d", &status)
		base := serve(t, map[string]http.HandlerFunc{"POST /api/v1/auth/revoke": says(status, "%s", answer[4:])})
		c := connector(t, base, "caminvoice", "", camInvoiceSettings).(connectors.Revoker)
		err := c.Revoke(t.Context(), connectors.Grant{Account: connectors.Account{ID: "KHUID1"}})
		if got := connectors.OutcomeOf(err); got != want {
			t.Errorf("%s: %s, want %s", answer, got, want)
		}
	}
}

func TestCamInvoiceHooks(t *testing.T) {
	c := connector(t, "http://127.0.0.1:1", "caminvoice", "", camInvoiceSettings).(connectors.WebhookReceiver)
	for body, want := range map[string]connectors.WebhookEvent{
		`{"type":"ENTITY.REVOKED","endpoint_id":"KHUID1"}`:                        {Type: "ENTITY.REVOKED", AccountID: "KHUID1", Revoked: true},
		`{"event_type":"entity.revoked","endpoint_id":"KHUID1"}`:                  {Type: "entity.revoked", AccountID: "KHUID1", Revoked: true},
		`{"type":"DOCUMENT.SENT","document_id":"x","endpoint_id":"KHUID1","n":1}`: {Type: "DOCUMENT.SENT", AccountID: "KHUID1"},
		`{"type":"ENTITY.REVOKED"}`:                                               {Type: "ENTITY.REVOKED", Revoked: true},
	} {
		got, err := c.ParseWebhook([]byte(body))
		if got != want || err != nil {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	for _, body := range []string{``, `[]`, `{}`, `{"type":1}`, `null`, `{"type":"ENTITY.REVOKED"`} {
		var unreadable *connectors.UnreadableError
		if got, err := c.ParseWebhook([]byte(body)); !errors.As(err, &unreadable) || got != (connectors.WebhookEvent{}) {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
}
