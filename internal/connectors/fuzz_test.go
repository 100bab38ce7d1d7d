package connectors

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// Each target feeds one parser of what others send: no input may make it panic, and what it returns must be plausible.

func seed(f *testing.F) {
	for _, s := range []string{
		``, `{}`, `[]`, `null`, `"x"`, `{"access_token":"T","expires_in":3600}`, `{"token":"T","expire_in":"15m"}`,
		`{"access_token":"T","expireIn":"15m","expire_at":"2026-05-07T01:37:57.510Z","expired_at":"2026-05-07T01:37:57.510Z"}`,
		`{"access_token":"a","refresh_token":"b","business_info":{"endpoint_id":"KHUID1","company_name_kh":"ក្រុម","x":[1,{"token":"t"}]}}`,
		`{"respCode":"200","respMsg":"success","data":{"accessToken":"a.eyJVU0VSX0lEIjoiNyIsImV4cCI6MX0.c","refreshToken":"b"}}`,
		`{"respCode":"401","respMsg":"Unauthorized","data":null}`, `{"error":"invalid_grant"}`, `{"error":["x"],"message":{"a":1}}`,
		`{"access_token":1e999,"expires_in":-1e400}`, "\ufeff{\"access_token\":\"T\"}", `{"type":"ENTITY.REVOKED","endpoint_id":"KHUID1"}`,
		`{"issuer":"https://x.example","authorization_endpoint":"https://x.example/a","token_endpoint":"https://x.example/t"}`,
		`[{"name":"a","issuer":"https://x.example","client_id":"i","client_secret_env":"S","environment":"sandbox"}]`,
	} {
		f.Add(200, []byte(s))
		f.Add(401, []byte(s))
	}
}

func fuzzResponse(status int, body []byte) response {
	now := time.Date(2026, 5, 7, 1, 22, 57, 0, time.UTC)
	return response{status: status, header: http.Header{"Content-Type": {"application/json; charset=latin1"}}, body: body, date: now, receivedAt: now}
}

func saneToken(t *testing.T, token Token, err error) {
	t.Helper()
	switch {
	case (err == nil) != (token.Access != ""):
		t.Errorf("a token and an error, or neither: %v", err)
	case err == nil && (token.Lifetime != 0 && !plausible(token.Lifetime) || token.RefreshLifetime < 0 || token.Type == ""):
		t.Errorf("lifetimes %s and %s", token.Lifetime, token.RefreshLifetime)
	case strings.ContainsFunc(token.Access, func(r rune) bool { return r < ' ' || r > '~' }):
		t.Error("a token that no header carries")
	}
}

func saneAccount(t *testing.T, a Account) {
	t.Helper()
	text := a.ID + a.Name
	for _, d := range a.Details {
		text += d.Key + d.Value
	}
	if strings.ContainsRune(text, 0) || utf8.RuneCountInString(a.ID) > 255 || strings.ToValidUTF8(text, "") != text {
		t.Errorf("account %q %q", a.ID, a.Name)
	}
}

func FuzzCamInvoice(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		g, err := camInvoiceGrant(fuzzResponse(status, body), "x.eyJlbmRwb2ludF9pZCI6IksifQ.y")
		saneToken(t, g.Token, err)
		saneAccount(t, g.Account)
		if err == nil && g.Account.ID == "" {
			t.Error("nobody's account")
		}
	})
}

func FuzzElecq(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := fuzzResponse(status, body)
		token, err := elecqToken(r, Token{Refresh: "b"})
		saneToken(t, token, err)
		saneAccount(t, elecqAccount(token))
		if code, err := elecqCode(r, "https://x.example/a"); (err == nil) != (code != "") {
			t.Errorf("code %q, %v", code, err)
		}
	})
}

func FuzzFlexiti(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := fuzzResponse(status, body)
		token, err := flexitiToken(r, "merchant")
		saneToken(t, token, err)
		saneAccount(t, flexitiMerchant(r.object(), Account{ID: "x"}))
	})
}

func FuzzBookings(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		token, err := bookingsToken(fuzzResponse(status, body))
		saneToken(t, token, err)
	})
}

func FuzzStandard(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := fuzzResponse(status, body)
		token, err := new(profile).token(r, r.object(), new(profile).aroundToken(r.object(), false), true)
		saneToken(t, token, err)
		saneAccount(t, standardAccount(r.object()))
		r.header.Set("Content-Type", "application/x-www-form-urlencoded")
		token, err = new(profile).token(r, r.object(), new(profile).aroundToken(r.object(), true), false)
		saneToken(t, token, err)
		m, err := parseMetadata(r.object(), "https://x.example", "production")
		if err == nil && m.tokenURL != "" && urlFault(m.tokenURL, "production", true) != "" {
			t.Errorf("a weak address %q", m.tokenURL)
		}
	})
}

func FuzzHook(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, _ int, body []byte) {
		h, err := new(camInvoice).ParseWebhook(body)
		if (err == nil) != (h.Type != "") || strings.ContainsRune(h.AccountID+h.Type, 0) {
			t.Errorf("%+v, %v", h, err)
		}
	})
}

func FuzzCode(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		r := fuzzResponse(status, body)
		r.secrets = []string{"a-secret-of-ours"}
		if code := r.errorCode(); len(code) > 64 || strings.ContainsAny(code, " \n\"<") || strings.Contains(code, r.secrets[0]) {
			t.Errorf("code %q", code)
		}
	})
}

func FuzzEntries(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, _ int, body []byte) {
		out, faults := loadStandard(func(string) string { return "hunter2" }, body, nil, NewClient(nil, nil))
		for _, c := range out {
			if info := c.Info(); info.Name == "" || !isEnvironment(info.Environment) || info.KeepAlive < time.Minute {
				t.Errorf("%+v", info)
			}
		}
		if strings.Contains(faults.Error(), "hunter2") && !strings.Contains(string(body), "hunter2") {
			t.Error("a secret shows")
		}
	})
}

func FuzzCallback(f *testing.F) {
	f.Add("authToken=A")
	f.Add("a=b?authToken=A&state=S")
	f.Add("?code=x?code=y")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		once := FixDoubledQuery(q)
		if twice := FixDoubledQuery(q); once.Encode() != twice.Encode() {
			t.Errorf("%s read in two ways", query)
		}
		if q.Get("state") != "" && !strings.Contains(q.Get("state"), "?") && once.Get("state") != q.Get("state") {
			t.Error("another state")
		}
		callbackError(once)
	})
}

func FuzzLifetime(f *testing.F) {
	for _, s := range []string{"15m", "1d", "1 hour", "3600", "2026-05-07T01:37:57.510Z", "1e9", "-1", "99999999999999", "0x10", "1w", "NaN"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := fuzzResponse(200, nil)
		if d := r.lifetime(object{"expires_in": s}, s, time.Hour, "expires_in"); !plausible(d) {
			t.Errorf("%q lasts %s", s, d)
		}
	})
}
