package connectors_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// published serves discovery with more members, and returns the connector of an entry with that issuer.
func published(t *testing.T, path, members, entry string, more map[string]http.HandlerFunc) connectors.Redirector {
	t.Helper()
	var base string
	pages := map[string]http.HandlerFunc{"GET " + path: func(w http.ResponseWriter, _ *http.Request) {
		reply(w, 200, `{"issuer":"%s","authorization_endpoint":"%s/a","token_endpoint":"%s/t"%s}`, base, base, base, strings.ReplaceAll(members, "BASE", base))
	}}
	for pattern, page := range more {
		pages[pattern] = page
	}
	base = serve(t, pages)
	all := `[{"name":"acme","issuer":"BASE","client_id":"i d","client_secret_env":"ACME_SECRET","environment":"production"` + entry + `}]`
	return connector(t, base, "acme", all, acmeSettings).(connectors.Redirector)
}

const (
	openidPath = "/.well-known/openid-configuration"
	oauthPath  = "/.well-known/oauth-authorization-server"
)

// TestAnotherAccountCanBeSelected: the provider's session would answer at once with the account that is connected already.
func TestAnotherAccountCanBeSelected(t *testing.T) {
	for _, one := range []struct {
		name, path, members, entry string
		first, another             string
	}{
		{"OpenID Connect", openidPath, "", `,"scopes":["openid"]`, "", "select_account"},
		{"with offline_access", openidPath, "", `,"scopes":["openid","offline_access"]`, "consent", "select_account consent"},
		{"it lists select_account", openidPath, `,"prompt_values_supported":["login","select_account"]`, "", "", "select_account"},
		{"it lists what it takes, and this is not among it", openidPath, `,"prompt_values_supported":["login","consent"]`, "", "", ""},
		{"RFC 8414 alone", oauthPath, "", "", "", ""},
		{"RFC 8414, and it lists select_account", oauthPath, `,"prompt_values_supported":["select_account"]`, "", "", "select_account"},
		{"the entry's own prompt as a key", openidPath, "", `,"prompt":"login","scopes":["openid","offline_access"]`, "login", "select_account"},
		{"the entry's own prompt as a parameter", openidPath, "", `,"authorize_params":{"prompt":"consent"}`, "consent", "select_account"},
		{"the entry's own prompt, and no accounts to select", oauthPath, "", `,"prompt":"login"`, "login", "login"},
		{"the entry's own prompt, for the first account", openidPath, "", `,"authorize_url":"BASE/own?prompt=login"`, "login", "select_account"},
	} {
		t.Run(one.name, func(t *testing.T) {
			c := published(t, one.path, one.members, one.entry, nil)
			for another, want := range map[bool]string{false: one.first, true: one.another} {
				f := flow()
				f.Another = another
				location, err := c.AuthorizationURL(t.Context(), f)
				if err != nil {
					t.Fatal(err)
				}
				if u, _ := url.Parse(location); u.Query().Get("prompt") != want {
					t.Errorf("another account %v: prompt %q, want %q", another, u.Query().Get("prompt"), want)
				}
			}
		})
	}
	c := connector(t, "https://acme.example", "acme", byAddress, acmeSettings).(connectors.Redirector)
	f := flow()
	f.Another = true
	if location, err := c.AuthorizationURL(t.Context(), f); err != nil || strings.Contains(location, "prompt") {
		t.Errorf("an entry by addresses: %s %v", location, err)
	}
}

// TestPushedRequests is RFC 9126, where discovery requires it.
func TestPushedRequests(t *testing.T) {
	const required = `,"pushed_authorization_request_endpoint":"BASE/par","require_pushed_authorization_requests":true`
	for _, one := range []struct {
		name, members, entry string
		answer               http.HandlerFunc
		pushed               bool
		outcome              status.Outcome
		reason               string
	}{
		{name: "it is required", members: required, answer: answers(201, "application/json", `{"request_uri":"urn:x:1","expires_in":60}`), pushed: true, outcome: status.OK},
		{name: "with the secret in the body", members: required, entry: `,"client_auth":"post"`, answer: answers(201, "application/json", `{"request_uri":"urn:x:1","expires_in":60}`), pushed: true, outcome: status.OK},
		{name: "it answers 200", members: required, answer: answers(200, "application/json", `{"request_uri":"urn:x:1"}`), pushed: true, outcome: status.OK},
		{name: "it is offered and not required", members: strings.Replace(required, "true", "false", 1), answer: answers(500, "", ""), outcome: status.OK},
		{name: "it is required and there is no address", members: `,"require_pushed_authorization_requests":true`, outcome: status.Temporary, reason: "unreadable (discovery: pushed_authorization_request_endpoint is missing)"},
		{name: "our request is refused", members: required, answer: answers(400, "application/json", `{"error":"invalid_request"}`), pushed: true, outcome: status.ClientRejected, reason: "invalid_request"},
		{name: "our client is refused", members: required, answer: answers(401, "application/json", `{"error":"invalid_client"}`), pushed: true, outcome: status.ClientRejected, reason: "invalid_client"},
		{name: "it is down", members: required, answer: answers(503, "", ""), pushed: true, outcome: status.Temporary, reason: "status (HTTP 503)"},
		{name: "it asks us to wait", members: required, answer: answers(429, "", ""), pushed: true, outcome: status.RateLimited},
		{name: "its answer has no request_uri", members: required, answer: answers(201, "application/json", `{"uri":"x"}`), pushed: true, outcome: status.Temporary, reason: "no-token (HTTP 201, request_uri is missing)"},
	} {
		t.Run(one.name, func(t *testing.T) {
			var form url.Values
			more := map[string]http.HandlerFunc{"POST /par": func(w http.ResponseWriter, r *http.Request) {
				if err := r.ParseForm(); err != nil {
					t.Error(err)
				}
				form = r.PostForm
				one.answer(w, r)
			}}
			c := published(t, openidPath, one.members, one.entry+`,"scopes":["openid","orders"]`, more)
			location, err := c.AuthorizationURL(t.Context(), flow())
			if connectors.OutcomeOf(err) != one.outcome || connectors.ReasonOf(err) != one.reason {
				t.Fatalf("%v %q, want %v %q", connectors.OutcomeOf(err), connectors.ReasonOf(err), one.outcome, one.reason)
			}
			if (form != nil) != one.pushed {
				t.Errorf("pushed %v, want %v", form != nil, one.pushed)
			}
			if err != nil {
				return
			}
			u, _ := url.Parse(location)
			if !one.pushed {
				if u.Query().Get("state") != flow().State {
					t.Errorf("location %s", location)
				}
				return
			}
			if got := fmt.Sprint(u.Query()); got != "map[client_id:[i d] request_uri:[urn:x:1]]" || u.Path != "/a" {
				t.Errorf("location %s", location)
			}
			for _, name := range []string{"state", "code_challenge", "redirect_uri", "scope", "nonce", "client_id", "response_type"} {
				if form.Get(name) == "" {
					t.Errorf("%s was not pushed", name)
				}
			}
			if (form.Get("client_secret") != "") != (one.entry != "") {
				t.Error("the client is not authenticated as the entry says")
			}
		})
	}
	t.Run("the doctor and the live check say what is missing", func(t *testing.T) {
		c := published(t, openidPath, `,"require_pushed_authorization_requests":true`, "", nil)
		_, err := c.(connectors.Checker).Check(t.Context())
		var unreadable *connectors.UnreadableError
		if !errors.As(err, &unreadable) {
			t.Errorf("%v", err)
		}
	})
}
