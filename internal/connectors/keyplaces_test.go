package connectors_test

import (
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// TestWhereAKeyGoes: a provider insists on where the secrets are, and gets them there from the check and from a program that sends the
// token as Send says.
func TestWhereAKeyGoes(t *testing.T) {
	const secret, second = "k3y:0123-ABC", "app-0987654321"
	for what, c := range map[string]struct {
		keys   string
		typed  map[string]string
		want   string // method, path with query, body
		header map[string]string
		access string
		send   connectors.Sent
	}{
		"two secrets in two headers": {
			`"inputs":{"key":{"secret":true},"app":{"secret":true}},"send":{"header":"DD-API-KEY","value":"{key}","headers":{"DD-APPLICATION-KEY":"{app}"}},"check":{"url":"BASE/v1/validate"}`,
			map[string]string{"key": secret, "app": second},
			"GET /v1/validate ",
			map[string]string{"DD-API-KEY": secret, "DD-APPLICATION-KEY": second},
			secret,
			connectors.Sent{Header: "DD-API-KEY", Value: "{key}", Headers: map[string]string{"DD-APPLICATION-KEY": second}},
		},
		"one secret in two headers": {
			`"inputs":{"key":{"secret":true}},"send":{"header":"Authorization","value":"Bearer {key}","headers":{"apikey":"{key}"}},"check":{"url":"BASE/rest"}`,
			map[string]string{"key": secret},
			"GET /rest ",
			map[string]string{"Authorization": "Bearer " + secret, "apikey": secret},
			secret,
			connectors.Sent{Header: "Authorization", Value: "Bearer {key}", Headers: map[string]string{"apikey": secret}},
		},
		"Basic and a secret in a header": {
			`"inputs":{"user":{},"password":{"secret":true},"app":{"secret":true}},"send":{"basic":["user","password"],"headers":{"US-Customer-Api-Key":"{app}"}},"check":{"url":"BASE/"}`,
			map[string]string{"user": "shop", "password": "p", "app": second},
			"GET / ",
			map[string]string{"Authorization": "Basic c2hvcDpw", "US-Customer-Api-Key": second},
			"c2hvcDpw",
			connectors.Sent{Header: "Authorization", Scheme: "Basic", Headers: map[string]string{"US-Customer-Api-Key": second}},
		},
		"Basic with a text beside a name": {
			`"inputs":{"user":{},"key":{"secret":true}},"send":{"basic":["{user}/token","{key}"]},"check":{"url":"BASE/me"}`,
			map[string]string{"user": "sok@shop.example", "key": "K"},
			"GET /me ",
			map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("sok@shop.example/token:K"))},
			base64.StdEncoding.EncodeToString([]byte("sok@shop.example/token:K")),
			connectors.Sent{Header: "Authorization", Scheme: "Basic"},
		},
		"Basic with a constant for a password": {
			`"inputs":{"key":{"secret":true}},"send":{"basic":["key","X"]},"check":{"url":"BASE/me"}`,
			map[string]string{"key": "K"},
			"GET /me ",
			map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte("K:X"))},
			base64.StdEncoding.EncodeToString([]byte("K:X")),
			connectors.Sent{Header: "Authorization", Scheme: "Basic"},
		},
		"two parameters": {
			`"inputs":{"key":{"secret":true},"app":{"secret":true}},"send":{"query":"api_key","params":{"app_key":"{app}"}},"check":{"url":"BASE/users?a=b","params":{"limit":"1"}}`,
			map[string]string{"key": secret, "app": second},
			"GET /users?a=b&api_key=k3y%3A0123-ABC&app_key=" + second + "&limit=1 ", nil,
			secret,
			connectors.Sent{Query: "api_key", Params: map[string]string{"app_key": second}},
		},
		"a header and a parameter": {
			`"inputs":{"key":{"secret":true},"shop":{}},"send":{"header":"X-Api-Token","value":"{key}","params":{"shop_domain":"{shop}"}},"check":{"url":"BASE/reviews"}`,
			map[string]string{"key": secret, "shop": "ch168.example"},
			"GET /reviews?shop_domain=ch168.example ",
			map[string]string{"X-Api-Token": secret},
			secret,
			connectors.Sent{Header: "X-Api-Token", Value: "{key}", Params: map[string]string{"shop_domain": "ch168.example"}},
		},
		"a body of JSON": {
			`"body":"json","inputs":{"key":{"secret":true},"email":{}},"send":{"body":"api_key","params":{"email":"{email}"}},"check":{"url":"BASE/ping","method":"POST","params":{"q":"1"}}`,
			map[string]string{"key": secret, "email": "sok@shop.example"},
			`POST /ping {"api_key":"` + secret + `","email":"sok@shop.example","q":"1"}`, nil,
			secret,
			connectors.Sent{Body: "api_key", Params: map[string]string{"email": "sok@shop.example"}},
		},
		"a form": {
			`"inputs":{"key":{"secret":true}},"send":{"body":"key"},"check":{"url":"BASE/ping","method":"POST"}`,
			map[string]string{"key": secret},
			"POST /ping key=k3y%3A0123-ABC", nil,
			secret,
			connectors.Sent{Body: "key"},
		},
		"a body without the key": {
			`"body":"json","inputs":{"key":{"secret":true}},"send":{"header":"X-Key","value":"{key}"},"check":{"url":"BASE/events","method":"POST","params":{"event":"test"}}`,
			map[string]string{"key": secret},
			`POST /events {"event":"test"}`,
			map[string]string{"X-Key": secret},
			secret,
			connectors.Sent{Header: "X-Key", Value: "{key}"},
		},
		"an empty object": {
			`"body":"json","inputs":{"key":{"secret":true}},"send":{"header":"X-Key","value":"{key}"},"check":{"url":"BASE/info","method":"POST"}`,
			map[string]string{"key": secret},
			"POST /info {}",
			map[string]string{"X-Key": secret},
			secret,
			connectors.Sent{Header: "X-Key", Value: "{key}"},
		},
		"the path": {
			`"inputs":{"key":{"secret":true}},"send":{"path":"/bot{key}"},"check":{"url":"BASE/bot{key}/getMe"}`,
			map[string]string{"key": secret},
			"GET /bot" + secret + "/getMe ", nil,
			secret,
			connectors.Sent{Path: "/bot{key}"},
		},
		"a header, and the path of the check": {
			`"inputs":{"key":{"secret":true}},"send":{"header":"X-Key","value":"{key}"},"check":{"url":"BASE/1/keys/{key}"}`,
			map[string]string{"key": secret},
			"GET /1/keys/" + secret + " ",
			map[string]string{"X-Key": secret},
			secret,
			connectors.Sent{Header: "X-Key", Value: "{key}"},
		},
	} {
		right := false
		provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			got := r.Method + " " + r.URL.RequestURI() + " " + string(body)
			right = got == c.want
			for name, value := range c.header {
				right = right && r.Header.Get(name) == value
			}
			if !right {
				reply(w, 401, `{"error":"unauthorized"}`)
				return
			}
			reply(w, 200, `{"id":77}`)
		}))
		t.Cleanup(provider.Close)
		c0, err := loaded(strings.ReplaceAll(`{"name":"depot","kind":"key","environment":"sandbox",`+c.keys+`}`, "BASE", provider.URL))
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		k := c0.(connectors.KeyConnector)
		ctx, calls := connectors.WithCalls(t.Context())
		g, err := k.Authenticate(ctx, flow(), c.typed)
		if err != nil || !right || g.Access != c.access || !reflect.DeepEqual(k.Send(g.Inputs), c.send) {
			t.Errorf("%s: %v, token %q sent as %+v", what, err, g.Access, k.Send(g.Inputs))
			continue
		}
		if _, err := k.Refresh(ctx, g); err != nil {
			t.Errorf("%s: checked again: %v", what, err)
		}
		wrong := maps.Clone(c.typed)
		for name := range wrong {
			if name == "key" || name == "app" || name == "password" {
				wrong[name] += "x"
			}
		}
		var input *connectors.InputError
		if _, err := k.Authenticate(ctx, flow(), wrong); !errors.As(err, &input) || input.Code != connectors.InputRefused {
			t.Errorf("%s: another key: %v", what, err)
		}
		for _, call := range calls.All {
			for _, hidden := range []string{secret, second} {
				if strings.Contains(call.Name+call.Code+call.Detail+call.Reference, hidden) {
					t.Errorf("%s: a secret is kept of the call: %+v", what, call)
				}
			}
		}
	}
}

// TestASecretInAPathCannotLeaveIt: what is typed as a key stands in a path as it is, or nothing is sent.
func TestASecretInAPathCannotLeaveIt(t *testing.T) {
	asked := ""
	provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.RequestURI()
		reply(w, 200, `{"ok":true}`)
	}))
	defer provider.Close()
	c, err := loaded(`{"name":"bot","kind":"key","environment":"sandbox","inputs":{"key":{"secret":true}},"send":{"path":"/{key}"},"check":{"url":"` + provider.URL + `/{key}/getMe"}}`)
	if err != nil {
		t.Fatal(err)
	}
	k := c.(connectors.KeyConnector)
	for _, typed := range []string{
		"..", ".", "../admin", "a/../../admin", "a/b", "%2e%2e", "a%2fb", "a?b", "a#b", "a\\b", "..;", "a;b", "a@b", "a b", "//evil.example", "@evil.example", "ខ្មែរ", "{key}", "",
	} {
		asked = ""
		var input *connectors.InputError
		if _, err := k.Authenticate(t.Context(), flow(), map[string]string{"key": typed}); !errors.As(err, &input) || input.Field != "key" || asked != "" {
			t.Errorf("%q: asked for %q, %v", typed, asked, err)
		}
		if _, err := k.Refresh(t.Context(), connectors.Grant{Inputs: map[string]string{"key": typed}}); connectors.OutcomeOf(err) != status.Rejected || asked != "" {
			t.Errorf("checked again with %q: asked for %q, %v", typed, asked, err)
		}
	}
	for _, typed := range []string{"110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", "a.b-c_d~e", "YWJj=", strings.Repeat("k", 200)} {
		if _, err := k.Authenticate(t.Context(), flow(), map[string]string{"key": typed}); err != nil || asked != "/"+typed+"/getMe" {
			t.Errorf("%q: asked for %q, %v", typed, asked, err)
		}
	}
	if _, err := loaded(`{"name":"bot","kind":"key","environment":"sandbox","inputs":{"key":{"secret":true}},"send":{"header":"X-Key","value":"{key}"},"check":{"url":"https://{key}.example.com/"}}`); err == nil {
		t.Error("a secret may stand in a host")
	}
}
