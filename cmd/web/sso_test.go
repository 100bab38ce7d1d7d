package main

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"patchbay/internal/sso/ssotest"
)

func TestSettingsOfSignInThroughThePlatform(t *testing.T) {
	all := []string{
		"SSO_ISSUER=https://id.platform.example", "SSO_CLIENT_ID=patchbay", "SSO_CLIENT_SECRET=do-not-print-me", "SSO_TITLE=Canal Accounts", "SSO_ROLE_CLAIM=roles",
		"SSO_ADMIN=root, admins", "SSO_SUPPORT=helpdesk", "SSO_MERCHANT_CLAIM=shop",
	}
	s, err := readSettings(append(complete(t), all...))
	if err != nil || s.sso == nil {
		t.Fatal(err)
	}
	if s.sso.Callback != "https://connect.example.com/login/sso/callback" || s.sso.RoleClaim != "roles" || !slices.Equal(s.sso.Admin, []string{"root", "admins"}) ||
		!slices.Equal(s.sso.Support, []string{"helpdesk"}) || s.sso.MerchantClaim != "shop" || s.ssoTitle != "Canal Accounts" {
		t.Errorf("%+v %s", s.sso, s.ssoTitle)
	}
	if s, err := readSettings(complete(t)); err != nil || s.sso != nil || s.ssoTitle != "" {
		t.Errorf("without settings: %+v %v", s.sso, err)
	}
	for what, c := range map[string]struct {
		drop string // settings that begin so
		add  []string
		says []string // none: no fault
	}{
		"the least":                   {"SSO_TITLE SSO_ROLE SSO_ADMIN SSO_SUPPORT", nil, nil},
		"an issuer on this machine":   {"SSO_ISSUER", []string{"SSO_ISSUER=http://127.0.0.1:9000/realms/main"}, nil},
		"an issuer by name":           {"SSO_ISSUER", []string{"SSO_ISSUER=http://localhost:9000"}, nil},
		"a title alone":               {"SSO_", []string{"SSO_TITLE=x"}, []string{"SSO_ISSUER is missing", "SSO_CLIENT_ID is missing", "SSO_CLIENT_SECRET or SSO_CLIENT_SECRET_FILE is missing", "turned away"}},
		"no secret":                   {"SSO_CLIENT_SECRET", nil, []string{"SSO_CLIENT_SECRET or SSO_CLIENT_SECRET_FILE is missing"}},
		"no issuer":                   {"SSO_ISSUER", nil, []string{"SSO_ISSUER is missing"}},
		"nobody may come in":          {"SSO_ADMIN SSO_SUPPORT SSO_MERCHANT", nil, []string{"everybody who signs in through the platform would be turned away"}},
		"one value makes both":        {"", []string{"SSO_SUPPORT=helpdesk,root"}, []string{"SSO_ADMIN and SSO_SUPPORT both have root"}},
		"one claim is both":           {"", []string{"SSO_MERCHANT_CLAIM=roles"}, []string{"are both roles"}},
		"plain http":                  {"", []string{"SSO_ISSUER=http://id.platform.example"}, []string{"It must be https"}},
		"no address":                  {"", []string{"SSO_ISSUER=id.platform.example"}, []string{"SSO_ISSUER is not an address"}},
		"the address of metadata":     {"", []string{"SSO_ISSUER=https://id.platform.example/.well-known/openid-configuration"}, []string{"SSO_ISSUER is not an address"}},
		"a query":                     {"", []string{"SSO_ISSUER=https://id.platform.example/?tenant=1"}, []string{"SSO_ISSUER is not an address"}},
		"a password in the address":   {"", []string{"SSO_ISSUER=https://u:do-not-print-me@id.platform.example"}, []string{"SSO_ISSUER is not an address"}},
		"a long title":                {"", []string{"SSO_TITLE=" + strings.Repeat("x", 61)}, []string{"SSO_TITLE has over 60"}},
		"the secret twice":            {"", []string{"SSO_CLIENT_SECRET_FILE=/nowhere"}, []string{"SSO_CLIENT_SECRET and SSO_CLIENT_SECRET_FILE are both set"}},
		"a misspelt name":             {"", []string{"SSO_MERCHANT_CLAIMS=x"}, []string{"SSO_MERCHANT_CLAIMS is not a setting"}},
		"a name that is no setting":   {"", []string{"SSO_SCOPES=x"}, []string{"SSO_SCOPES is not a setting"}},
		"quotes around the secret":    {"SSO_CLIENT_SECRET", []string{`SSO_CLIENT_SECRET="x"`}, []string{"SSO_CLIENT_SECRET has quotes"}},
		"an admin by a name in Khmer": {"", []string{"SSO_ADMIN=អ្នកគ្រប់គ្រង"}, nil},
	} {
		environ := complete(t)
		for _, one := range all {
			if !slices.ContainsFunc(strings.Fields(c.drop), func(prefix string) bool { return strings.HasPrefix(one, prefix) }) {
				environ = append(environ, one)
			}
		}
		s, err := readSettings(append(environ, c.add...))
		if (err == nil) != (c.says == nil) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for _, says := range c.says {
			if !strings.Contains(err.Error(), says) {
				t.Errorf("%s: nothing says %q in:\n%v", what, says, err)
			}
		}
		if err != nil && strings.Contains(err.Error(), "do-not-print-me") {
			t.Errorf("%s: a secret is quoted:\n%v", what, err)
		}
		if err == nil && (s.ssoTitle == "" || s.sso.RoleClaim == "") {
			t.Errorf("%s: no title or no claim: %+v", what, s)
		}
	}
	if s, _ := readSettings(append(complete(t), "SSO_ISSUER=https://id.platform.example", "SSO_CLIENT_ID=a", "SSO_CLIENT_SECRET=b", "SSO_ADMIN=c")); s.ssoTitle != "id.platform.example" || s.sso.RoleClaim != "groups" {
		t.Errorf("by default the title is %q and the claim %q", s.ssoTitle, s.sso.RoleClaim)
	}
	if s, _ := readSettings(append(complete(t), "SSO_ISSUER=https://id.platform.example", "SSO_CLIENT_ID=a", "SSO_CLIENT_SECRET=b", "SSO_ADMIN=c", "BRAND_NAME=Canal")); s.ssoTitle != "Canal" {
		t.Errorf("with a brand the title is %q", s.ssoTitle)
	}
}

func TestDoctorTriesSignInThroughThePlatform(t *testing.T) {
	_, environ := operator(t)
	issuer := ssotest.New(t, nil)
	environ = append(environ, "SSO_CLIENT_ID=patchbay", "SSO_CLIENT_SECRET=do-not-print-me", "SSO_ADMIN=admins")
	line := func(issuer string) string {
		_, out, _ := said(t, append(environ, "SSO_ISSUER="+issuer), "", "doctor")
		if strings.Contains(out, "do-not-print-me") {
			t.Errorf("the secret is printed:\n%s", out)
		}
		return out
	}
	if out := line(issuer.URL); !strings.Contains(out, "ok     sso ") || !strings.Contains(out, "must know the callback address") || !strings.Contains(out, "/login/sso/callback") {
		t.Errorf("a good issuer:\n%s", out)
	}
	if out := line(issuer.URL + "/realm"); !strings.Contains(out, "WRONG  sso ") {
		t.Errorf("another issuer:\n%s", out)
	}
	issuer.Answer("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	if out := line(issuer.URL); !strings.Contains(out, "WRONG  sso ") || !strings.Contains(out, "does not answer") {
		t.Errorf("an issuer that is away:\n%s", out)
	}
}
