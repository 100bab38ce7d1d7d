package sandbox

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestTemplatesOfWellKnownProvidersAreJSON(t *testing.T) {
	for _, r := range wellKnown() {
		templates := map[string]string{"answer": r.answer, "renewed": r.renewed, "identity": r.identity, "document": r.document, "claims": r.claims}
		for why, no := range r.no {
			templates["no to "+string(rune('0'+why))] = no.body
		}
		for name, template := range templates {
			if template != "" && !json.Valid([]byte(template)) {
				t.Errorf("%s: %s is no JSON: %s", r.name, name, template)
			}
		}
	}
}

func TestFillLeavesOutWhatHasNoValue(t *testing.T) {
	p := imitation{New(Options{BaseURL: "http://box.test"}), rules{}}
	got, err := json.Marshal(p.fill(`{"a":"{x}","b":"{none}","c":["{n}"],"d":"x is {x}, {none}","e":"{at}/z","f":null}`, map[string]any{"x": "1", "n": 2}))
	if want := `{"a":"1","c":[2],"d":"x is 1, {none}","e":"http://box.test/at/z","f":null}`; err != nil || string(got) != want {
		t.Errorf("%s (%v), want %s", got, err, want)
	}
}

func TestLocalPointsAnEntryToItsImitation(t *testing.T) {
	s := New(Options{BaseURL: "http://box.test"})
	for _, one := range []struct{ entry, want string }{
		{`{"name": "a", "client_id": "…", "environment": "production"}`, `{"name": "a", "client_id": "a-sandbox-client", "environment": "sandbox"}`},
		{`{"token_url": "https://x.example/t?a=b"}`, `{"token_url": "http://box.test/at/x.example/t?a=b"}`},
		{`{"token_url":"https://{shop}.x.example/t"}`, `{"token_url":"http://box.test/at/x.example/{shop}/t"}`},
		{`{"token_url": "https://{server}/t"}`, `{"token_url": "http://box.test/at/{server}/t"}`},
		{`{"account": {"url": "https://x.example/{connection_id}"}}`, `{"account": {"url": "http://box.test/at/x.example/{connection_id}"}}`},
		{`{"portal_url": "https://x.example"}`, `{"portal_url": "https://x.example"}`},
		{`{"inputs": {"client_id": {}}}`, `{"inputs": {"client_id": {}}}`},
	} {
		if got := string(s.Local([]byte(one.entry))); got != one.want {
			t.Errorf("%s\nbecame %s\nwant   %s", one.entry, got, one.want)
		}
	}
}

// TestImitationsInsist asks each what its provider refuses.
func TestImitationsInsist(t *testing.T) {
	const callback = "http://app.test/connect/%s/callback"
	s := start(t, Options{AppURLs: []string{"http://app.test"}})
	browser := http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ask := func(name, path string, q url.Values) (status int, location string) {
		t.Helper()
		for key, value := range map[string]string{
			"client_id": name + "-sandbox-client", "redirect_uri": strings.ReplaceAll(callback, "%s", name), "response_type": "code", "state": "s",
		} {
			if !q.Has(key) {
				q.Set(key, value)
			}
		}
		res, err := browser.Get(s.BaseURL() + "/at/" + path + "?" + q.Encode())
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode, res.Header.Get("Location")
	}
	for _, one := range []struct {
		why, name, path string
		q               url.Values
		status          int
		says            string
	}{
		{"no PKCE", "slack", "slack.com/oauth/v2/authorize", url.Values{"code_challenge": {"x"}}, 302, "PKCE+is+for+public+clients"},
		{"without it", "slack", "slack.com/oauth/v2/authorize", url.Values{"scope": {"a,b"}}, 200, ""},
		{"scopes with commas", "slack", "slack.com/oauth/v2/authorize", url.Values{"scope": {"a b"}}, 302, "invalid_scope"},
		{"scopes with spaces", "square", "connect.squareup.com/oauth2/authorize", url.Values{"session": {"false"}, "scope": {"a,b"}}, 302, "invalid_scope"},
		{"no scopes", "mailchimp", "login.mailchimp.com/oauth2/authorize", url.Values{"scope": {"a"}}, 302, "invalid_scope"},
		{"its own parameter", "notion", "api.notion.com/v1/oauth/authorize", url.Values{}, 400, ""},
		{"its value", "notion", "api.notion.com/v1/oauth/authorize", url.Values{"owner": {"workspace"}}, 400, ""},
		{"it is there", "notion", "api.notion.com/v1/oauth/authorize", url.Values{"owner": {"user"}}, 200, ""},
		{"a callback that is registered", "github", "github.com/login/oauth/authorize", url.Values{"redirect_uri": {"http://evil.test/"}}, 400, ""},
		{"a client that is known", "github", "github.com/login/oauth/authorize", url.Values{"client_id": {"x"}}, 400, ""},
		{"an application in place of a client", "amazon-sp", "sellercentral.amazon.com/apps/authorize/consent", url.Values{"client_id": {""}, "redirect_uri": {""}, "application_id": {"amzn1"}}, 200, ""},
		{"state", "github", "github.com/login/oauth/authorize", url.Values{"state": {""}}, 400, ""},
	} {
		if status, location := ask(one.name, one.path, one.q); status != one.status || !strings.Contains(location, one.says) {
			t.Errorf("%s: %s answers %d %s, want %d %s", one.why, one.name, status, location, one.status, one.says)
		}
	}
}
