package connectors_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"patchbay/internal/connectors"
	"patchbay/internal/connectors/connectortest"
	"patchbay/internal/status"
)

const shopify = `{"name":"shopify","environment":"production","client_id":"c","client_secret_env":"SECRET","client_auth":"post","inputs":{"shop":{"suffix":".myshopify.com"}},
	"authorize_url":"https://{shop}.myshopify.com/admin/oauth/authorize","token_url":"https://{shop}.myshopify.com/admin/oauth/access_token","account":{"id":"input.shop","name":"input.shop"}}`

// loaded returns the connector of the one entry, or what is wrong with it.
func loaded(entry string) (connectors.Connector, error) {
	all, err := connectors.Load(func(name string) string {
		if name == "SECRET" {
			return "the-client-secret"
		}
		return ""
	}, []byte("["+entry+"]"), connectors.NewClient(nil, nil))
	if err != nil {
		return nil, err
	}
	return all[len(all)-1].Connector, nil
}

// withKeys returns an entry with keys set anew; a value of "" takes one away.
func withKeys(t *testing.T, entry string, keys map[string]string) string {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal([]byte(entry), &members); err != nil {
		t.Fatal(err)
	}
	for key, value := range keys {
		if members[key] = json.RawMessage(value); value == "" {
			delete(members, key)
		}
	}
	raw, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestAPlaceholderStandsOnlyWhereItCannotLead(t *testing.T) {
	address := func(a string) map[string]string {
		return map[string]string{"authorize_url": `"` + a + `"`, "token_url": `"` + a + `"`, "inputs": `{"shop":{}}`}
	}
	for what, c := range map[string]struct {
		keys  map[string]string
		fault string // "" if the entry is right
	}{
		"before a domain":                          {address("https://{shop}.example.com/a"), ""},
		"two labels before a domain":               {map[string]string{"authorize_url": `"https://{shop}.{env}.example.com/"`, "token_url": `"https://{shop}.{env}.example.com/"`, "inputs": `{"shop":{},"env":{}}`}, ""},
		"before a domain of a country's":           {address("https://{shop}.example.co.uk/a"), ""},
		"before a country's own suffix":            {address("https://{shop}.co.uk/a"), "before a domain"},
		"before a top-level domain":                {address("https://{shop}.com/a"), "before a domain"},
		"after a label and before a top level":     {address("https://api.{shop}.com/a"), "before a domain"},
		"as the whole host":                        {address("https://{shop}/a"), "before a domain"},
		"at the end of the host":                   {address("https://shop.example.{shop}/a"), "before a domain"},
		"as the scheme":                            {address("{shop}://shop.example.com/a"), "scheme"},
		"as the port":                              {address("https://shop.example.com:{shop}/a"), "before a domain"},
		"as a user":                                {address("https://{shop}@example.com/a"), "before a domain"},
		"in a path":                                {address("https://api.example.com/{shop}/a"), ""},
		"in a query":                               {address("https://api.example.com/a?shop={shop}"), ""},
		"in a fragment":                            {address("https://api.example.com/a#{shop}"), "fragment"},
		"an input that is not there":               {map[string]string{"token_url": `"https://{store}.myshopify.com/t"`}, "no such input"},
		"an input that is used nowhere":            {map[string]string{"inputs": `{"shop":{"suffix":".myshopify.com"},"more":{}}`}, "used nowhere"},
		"one brace":                                {address("https://{shop}.example.com/{a"), "brace"},
		"a parameter without its input":            {map[string]string{"token_params": `{"a":"{b}"}`}, "no such input"},
		"another domain for the token":             {map[string]string{"token_url": `"https://{shop}.evil.com/t"`}, "same domain"},
		"another suffix than the input's":          {map[string]string{"inputs": `{"shop":{"suffix":".shopify.com"}}`}, "follows {shop} in no host"},
		"the input's suffix in one address only":   {map[string]string{"token_url": `"https://{shop}.api.myshopify.com/t"`}, ""},
		"a suffix that is no domain":               {map[string]string{"inputs": `{"shop":{"suffix":"myshopify"}}`}, "suffix"},
		"a secret in an address":                   {map[string]string{"inputs": `{"shop":{"secret":true}}`}, "secret"},
		"a host, with our client secret":           {map[string]string{"inputs": `{"shop":{"kind":"host"}}`, "authorize_url": `"https://{shop}/a"`, "token_url": `"https://{shop}/t"`}, "kind host"},
		"a segment in the host":                    {map[string]string{"inputs": `{"shop":{"kind":"segment"}}`}, "segment of a path"},
		"a pattern that is none":                   {map[string]string{"inputs": `{"shop":{"pattern":"("}}`}, "RE2"},
		"options for the whole host":               {map[string]string{"inputs": `{"shop":{"options":{"eu":"eu.example.com","us":"us.example.org"}}}`, "authorize_url": `"https://{shop}/a"`, "token_url": `"https://{shop}/t"`}, ""},
		"options for the end of the host":          {map[string]string{"inputs": `{"shop":{"options":{"eu":"eu","com":"com"}}}`, "authorize_url": `"https://accounts.zoho.{shop}/a"`, "token_url": `"https://accounts.zoho.{shop}/t"`}, ""},
		"an option that is no host":                {map[string]string{"inputs": `{"shop":{"options":{"eu":"eu.example.com","us":"a b"}}}`, "authorize_url": `"https://{shop}/a"`, "token_url": `"https://{shop}/t"`}, "whole address"},
		"an option with a user in it":              {map[string]string{"inputs": `{"shop":{"options":{"eu":"a@b.example"}}}`, "authorize_url": `"https://{shop}/a"`, "token_url": `"https://{shop}/t"`}, "option"},
		"from the callback, where we are to leave": {map[string]string{"inputs": `{"shop":{"from":"callback.shop","suffix":".myshopify.com"}}`}, "the callback brings"},
		"from elsewhere than the callback":         {map[string]string{"inputs": `{"shop":{"from":"answer.shop","suffix":".myshopify.com"}}`}, "callback"},
		"in the issuer":                            {map[string]string{"issuer": `"https://{shop}.myshopify.com"`}, ""},
		"in the path of the issuer":                {map[string]string{"issuer": `"https://id.example.com/{shop}/v2"`, "authorize_url": "", "token_url": "", "inputs": `{"shop":{}}`}, ""},
		"an issuer with another domain":            {map[string]string{"issuer": `"https://{shop}.evil.com"`}, "same domain"},
		"an issuer with a query":                   {map[string]string{"issuer": `"https://{shop}.myshopify.com?a={shop}"`}, "issuer must not"},
		"as the whole host of the issuer":          {map[string]string{"issuer": `"https://{shop}"`, "authorize_url": "", "token_url": "", "inputs": `{"shop":{}}`}, "before a domain"},
		"a host that is typed, in the issuer":      {map[string]string{"issuer": `"https://{shop}"`, "authorize_url": "", "token_url": "", "inputs": `{"shop":{"kind":"host"}}`}, "kind host"},
		"a secret in the issuer":                   {map[string]string{"issuer": `"https://id.example.com/{shop}"`, "authorize_url": "", "token_url": "", "inputs": `{"shop":{"secret":true}}`}, "secret"},
		"the issuer from the callback":             {map[string]string{"issuer": `"https://{shop}.myshopify.com"`, "authorize_url": "", "inputs": `{"shop":{"from":"callback.shop"}}`}, "issuer names {shop}, which the callback brings"},
		"an issuer without its input":              {map[string]string{"issuer": `"https://{store}.myshopify.com"`}, "no such input"},
		"a name of ours":                           {map[string]string{"inputs": `{"shop":{"suffix":".myshopify.com"},"state":{}}`, "token_params": `{"a":"{state}"}`}, "ours"},
	} {
		_, err := loaded(withKeys(t, shopify, c.keys))
		if (err == nil) != (c.fault == "") || err != nil && !strings.Contains(err.Error(), c.fault) {
			t.Errorf("%s: %v, want a fault about %q", what, err, c.fault)
		}
	}
	_, err := loaded(withKeys(t, shopify, map[string]string{"token_url": `"https://{store}.evil.com/t"`, "inputs": `{"shop":{"pattern":"("},"more":{}}`}))
	for _, fault := range []string{"{store}", "RE2", "more is used nowhere"} {
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("not every fault is in one message: %v lacks %q", err, fault)
		}
	}
}

func TestWhatIsTypedCannotLeaveItsPlace(t *testing.T) {
	c, err := loaded(shopify)
	if err != nil {
		t.Fatal(err)
	}
	shop := c.(connectors.Asker)
	for _, typed := range []string{
		"ch168.evil.com", "ch168.evil.com/.myshopify.com", "evil.com#.myshopify.com", "evil.com?.myshopify.com", "evil.com\\.myshopify.com", "a@evil.com", "a:b@evil", "evil.com:443",
		"evil%2ecom", "%2e%2e", "..", ".", "-", "-a", "a-", "a.", "a..b", ".myshopify.com", "ch168.myshopify.com.", "ch168.myshopify.com.evil.com", "127.0.0.1", "2130706433.", "[::1]",
		"::1", "0x7f.1", "localhost:1", "ch168 evil", "ch168\tevil", "ch168\r\nHost: evil", "ខ្មែរ", "ｃｈ168", "ch168。evil", "аpple", "é", "ch_168", "{shop}",
		"https://evil.com/", "//evil.com", "https://ch168.myshopify.com@evil.com", "javascript:alert(1)", strings.Repeat("a", 64), "",
	} {
		values, err := shop.CheckInputs(map[string]string{"shop": typed})
		var input *connectors.InputError
		if !errors.As(err, &input) || input.Field != "shop" || values != nil {
			t.Errorf("%q is taken as %q: %v", typed, values["shop"], err)
		}
	}
	for typed, want := range map[string]string{
		"ch168": "ch168", " CH168 ": "ch168", "https://ch168.myshopify.com/admin?x=1#y": "ch168", "CH168.MyShopify.com": "ch168", "http://ch168.myshopify.com": "ch168", "a-1": "a-1", "1": "1", "ch168/../..": "ch168", "\u212aelvin": "kelvin",
		"xn--p1ai": "xn--p1ai", strings.Repeat("a", 63): strings.Repeat("a", 63),
	} {
		values, err := shop.CheckInputs(map[string]string{"shop": typed})
		if err != nil || values["shop"] != want {
			t.Errorf("%q is taken as %q, %v; want %q", typed, values["shop"], err, want)
		}
		location, err := shop.AuthorizationURL(t.Context(), connectors.Flow{CallbackURL: "https://our.example/cb", Inputs: values})
		to, parsed := url.Parse(location)
		if err != nil || parsed != nil || to.Host != want+".myshopify.com" || to.Scheme != "https" || to.Path != "/admin/oauth/authorize" {
			t.Errorf("%q leads to %s, %v", typed, location, err)
		}
	}
	for _, sealed := range []string{"evil.com/", "a.b", "", "A B"} { // what an entry of before would have taken
		if location, err := shop.AuthorizationURL(t.Context(), connectors.Flow{Inputs: map[string]string{"shop": sealed}}); connectors.OutcomeOf(err) != status.Rejected {
			t.Errorf("%q leads to %s, %v", sealed, location, err)
		}
		if _, err := shop.Refresh(t.Context(), connectors.Grant{Token: connectors.Token{Refresh: "R"}, Inputs: map[string]string{"shop": sealed}}); connectors.OutcomeOf(err) != status.Rejected {
			t.Errorf("refreshed with %q: %v", sealed, err)
		}
	}
}

// inputsEntry has every kind of place for inputs, at a provider at BASE.
const inputsEntry = `[{"name":"acme","environment":"sandbox","client_id":"c","client_secret_env":"SECRET","client_auth":"post",
	"inputs":{"tenant":{"kind":"segment"},"region":{"options":{"eu":"HOST","us":"us.example.com"}},"note":{"optional":true},"shop":{},"prefix":{"from":"callback.domain_prefix"}},
	"authorize_url":"http://{region}/{tenant}/authorize?t={tenant}","token_url":"http://{region}/{tenant}/{prefix}/token","revoke_url":"http://{region}/{tenant}/revoke",
	"authorize_params":{"shop":"{shop}","note":"{note}"},"token_params":{"shop":"shop-{shop}"},"refresh_params":{"shop":"{shop}"},
	"account":{"id":"input.shop","name":"account.name","url":"http://{region}/{tenant}/me/{input.shop}","keep":{"tenant":"input.tenant"}}}]`

func TestWhatWasTypedGoesWhereItBelongs(t *testing.T) {
	var calls []string
	base := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		form, _ := url.ParseQuery(string(raw))
		calls = append(calls, r.Method+" "+r.URL.Path+" "+form.Get("shop"))
		if strings.Contains(r.URL.Path, "/me/") {
			reply(w, 200, `{"name":"CH168"}`)
			return
		}
		reply(w, 200, `{"access_token":"the-access-token","refresh_token":"the-refresh-token","expires_in":3600}`)
	}})
	entry := strings.ReplaceAll(inputsEntry, "HOST", strings.TrimPrefix(base, "http://"))
	c := connector(t, base, "acme", entry, map[string]string{"SECRET": "the-client-secret"}).(connectors.Asker)
	if names := fmt.Sprint(c.Fields()); strings.Contains(names, "prefix") || len(c.Fields()) != 4 {
		t.Errorf("asked for: %s", names)
	}
	values, err := c.CheckInputs(map[string]string{"tenant": "T_1.x", "region": "eu", "shop": "ch168", "prefix": "typed"})
	if err != nil {
		t.Fatal(err)
	}
	f := flow()
	f.Inputs = values
	location, err := c.AuthorizationURL(t.Context(), f)
	to, _ := url.Parse(location)
	if q := to.Query(); err != nil || !strings.HasPrefix(location, base+"/T_1.x/authorize?") || q.Get("t") != "T_1.x" || q.Get("shop") != "ch168" || q.Has("note") {
		t.Errorf("leads to %s, %v", location, err)
	}
	callback := url.Values{"code": {"C"}, "domain_prefix": {"acme-1"}, "shop": {"ch168"}}
	g, err := c.Exchange(t.Context(), f, callback)
	if err != nil || g.Account.ID != "ch168" || g.Account.Name != "CH168" || !reflect.DeepEqual(g.Account.Values, connectors.Values{"tenant": "T_1.x"}) ||
		!maps.Equal(g.Account.Input, map[string]string{"tenant": "T_1.x", "region": "eu", "shop": "ch168", "prefix": "acme-1"}) {
		t.Fatalf("account %+v, %v", g.Account, err)
	}
	if _, err := c.Refresh(t.Context(), g); err != nil {
		t.Error(err)
	}
	if err := c.(connectors.Revoker).Revoke(t.Context(), g); err != nil {
		t.Error(err)
	}
	want := "POST /T_1.x/acme-1/token shop-ch168,GET /T_1.x/me/ch168 ,POST /T_1.x/acme-1/token ch168,POST /T_1.x/revoke ,POST /T_1.x/revoke "
	if got := strings.Join(calls, ","); got != want {
		t.Errorf("called %s, want %s", got, want)
	}
	if _, err := c.(connectors.Checker).Check(t.Context()); !errors.Is(err, connectors.ErrNotOffered) {
		t.Errorf("checked without a merchant: %v", err)
	}
	if c.Info().Renewable(connectors.Grant{Inputs: values}) {
		t.Error("what was typed before leaving gives no access")
	}

	calls = nil
	for what, q := range map[string]url.Values{
		"another shop":      {"domain_prefix": {"acme-1"}, "shop": {"evil"}},
		"another tenant":    {"domain_prefix": {"acme-1"}, "tenant": {"T_2"}},
		"another region":    {"domain_prefix": {"acme-1"}, "region": {"us"}},
		"a prefix of dots":  {"domain_prefix": {".."}},
		"a prefix's slash":  {"domain_prefix": {"a/b"}},
		"a prefix's host":   {"domain_prefix": {"evil.com"}},
		"no prefix":         {},
		"a percent":         {"domain_prefix": {"a%2fb"}},
		"a shop with an at": {"domain_prefix": {"acme-1"}, "shop": {"ch168@evil"}},
	} {
		q.Set("code", "C")
		if g, err := c.Exchange(t.Context(), f, q); err == nil || g.Access != "" || len(calls) > 0 {
			t.Errorf("a callback with %s: %v, called %v", what, err, calls)
		}
	}
}

func TestAnAnswerThatLeadsElsewhereIsNotFollowed(t *testing.T) {
	led := false
	away := serve(t, map[string]http.HandlerFunc{"/": func(http.ResponseWriter, *http.Request) { led = true }})
	base := serve(t, map[string]http.HandlerFunc{"/": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, away+"/token", http.StatusTemporaryRedirect)
	}})
	c := connector(t, base, "acme", `[{"name":"acme","environment":"sandbox","client_id":"c","client_secret_env":"SECRET","inputs":{"shop":{}},
		"authorize_url":"BASE/{shop}/a","token_url":"BASE/{shop}/t"}]`, map[string]string{"SECRET": "s"}).(connectors.Asker)
	f := flow()
	f.Inputs = map[string]string{"shop": "ch168"}
	if _, err := c.Exchange(t.Context(), f, url.Values{"code": {"C"}}); connectors.OutcomeOf(err) != status.Temporary || led {
		t.Errorf("%v, followed %t", err, led)
	}
}

const bookingsEntry = `[{"name":"stay","title":"Stay Here","kind":"client_credentials","environment":"production","token_url":"BASE/api/oauth/token","body":"json","client_auth":"post",
	"inputs":{"client_id":{},"client_secret":{"secret":true}},"account":{"id":"access_token.partner_id"},"replay_safe":true}]`

// TestTheBookingsPartnerByAnEntryAlone holds an entry to what the built-in connector of the same provider is held to.
func TestTheBookingsPartnerByAnEntryAlone(t *testing.T) {
	connectortest.Run(t, connectortest.Case{
		Good: bookingsGood(false),
		New: func(t *testing.T, base string) connectors.Connector {
			return connector(t, base, "stay", bookingsEntry, nil)
		},
		Inputs:       map[string]string{"client_id": bookingsID, "client_secret": bookingsSecret},
		Unauthorized: map[string]status.Outcome{"authenticate": status.InvalidInput, "refresh": status.Rejected},
	})
	s := serve(t, map[string]http.HandlerFunc{"/": bookingsGood(false)().ServeHTTP})
	inputs := map[string]string{"client_id": bookingsID, "client_secret": bookingsSecret}
	byCode, err := connector(t, s, "bookings", "", bookingsSettings).(connectors.CredentialConnector).Authenticate(t.Context(), flow(), inputs)
	if err != nil {
		t.Fatal(err)
	}
	byEntry, err := connector(t, s, "stay", bookingsEntry, nil).(connectors.CredentialConnector).Authenticate(t.Context(), flow(), inputs)
	if err != nil || byEntry.Account.ID != byCode.Account.ID || byEntry.Lifetime != byCode.Lifetime || !maps.Equal(byEntry.Inputs, byCode.Inputs) ||
		!maps.Equal(byEntry.Account.Input, map[string]string{"client_id": bookingsID}) {
		t.Errorf("by an entry: account %+v, %v", byEntry.Account, err)
	}
}

func TestClientCredentialsRenewByARefreshTokenWhereOneComes(t *testing.T) {
	var grants []string
	refuse := false
	base := serve(t, map[string]http.HandlerFunc{"POST /{$}": func(w http.ResponseWriter, r *http.Request) {
		id, secret, _ := r.BasicAuth()
		if err := r.ParseForm(); err != nil || id != "id" || secret != "secret" {
			reply(w, 401, `{"error":"invalid_client"}`)
			return
		}
		grants = append(grants, r.PostForm.Get("grant_type")+" "+r.PostForm.Get("scope")+" "+r.PostForm.Get("audience"))
		if refuse && r.PostForm.Get("grant_type") == "refresh_token" {
			reply(w, 400, `{"error":"invalid_grant"}`)
			return
		}
		reply(w, 200, `{"access_token":"A","refresh_token":"R","expires_in":600,"refresh_expires_in":600}`)
	}})
	c := connector(t, base, "rooms", `[{"name":"rooms","kind":"client_credentials","environment":"sandbox","token_url":"http://{region}/","scopes":["a","b"],"scope_separator":",","token_params":{"audience":"{region}x"},
		"inputs":{"client_id":{},"client_secret":{"secret":true},"region":{"options":{"eu":"`+strings.TrimPrefix(base, "http://")+`"}}}}]`, nil).(connectors.CredentialConnector)
	g, err := c.Authenticate(t.Context(), flow(), map[string]string{"client_id": "id", "client_secret": "secret", "region": "eu"})
	if err != nil || g.Account.ID != "id" || g.Refresh != "R" || !c.Info().Renewable(g) || !c.Info().Typed(g) {
		t.Fatalf("%+v, %v", g.Account, err)
	}
	for range 2 {
		if token, err := c.Refresh(t.Context(), g); err != nil || token.Access != "A" {
			t.Error(err)
		}
		refuse = true
	}
	host := strings.TrimPrefix(base, "http://")
	want := []string{"client_credentials a,b " + host + "x", "refresh_token  ", "refresh_token  ", "client_credentials a,b " + host + "x"}
	if !reflect.DeepEqual(grants, want) {
		t.Errorf("asked %q, want %q", grants, want)
	}
	g.Inputs = map[string]string{"client_id": "id", "client_secret": "changed", "region": "eu"}
	if _, err := c.Refresh(t.Context(), g); connectors.OutcomeOf(err) != status.Rejected {
		t.Errorf("with a secret that was changed there: %v", err)
	}
	var input *connectors.InputError
	if _, err := c.Authenticate(t.Context(), flow(), map[string]string{"client_id": "id", "client_secret": "other", "region": "eu"}); !errors.As(err, &input) || input.Code != connectors.InputRefused {
		t.Errorf("with a wrong secret: %v", err)
	}
}

func TestAHostThatIsTypedIsOneOfThePublicInternet(t *testing.T) {
	c, err := loaded(`{"name":"canvas","kind":"client_credentials","environment":"sandbox","token_url":"https://{host}/login/oauth2/token",
		"inputs":{"host":{"kind":"host"},"client_id":{},"client_secret":{"secret":true}}}`)
	if err != nil {
		t.Fatal(err)
	}
	typed := c.(connectors.CredentialConnector)
	for host, code := range map[string]string{
		"127.0.0.1": connectors.InputMalformed, "localhost": connectors.InputMalformed, "a.example.com:8443": connectors.InputMalformed, "10.0.0.1": connectors.InputMalformed, "[::1]": connectors.InputMalformed,
		"a@b.example.com": connectors.InputMalformed, "b.example.com.": connectors.InputMalformed, "b..example.com": connectors.InputMalformed, "0x7f.0.0.1": connectors.InputMalformed, "example": connectors.InputMalformed,
		"ខ្មែរ.com": connectors.InputNotASCII, "a.1": connectors.InputMalformed, "a%2eexample.com": connectors.InputMalformed, "a\\.example.com": connectors.InputMalformed,
	} {
		_, err := typed.Authenticate(t.Context(), flow(), map[string]string{"host": host, "client_id": "id", "client_secret": "secret"})
		var input *connectors.InputError
		if !errors.As(err, &input) || input.Field != "host" || input.Code != code {
			t.Errorf("%s: %v, want %s", host, err, code)
		}
	}
	for what, keys := range map[string]map[string]string{
		"http":   {"token_url": `"http://{host}/token"`},
		"a port": {"token_url": `"https://{host}:8443/token"`},
		"a part": {"token_url": `"https://{host}.example.com/token"`},
		"ours":   {"client_secret_env": `"SECRET"`},
	} {
		entry := withKeys(t, `{"name":"canvas","kind":"client_credentials","environment":"sandbox","inputs":{"host":{"kind":"host"},"client_id":{},"client_secret":{"secret":true}},"token_url":"https://{host}/t"}`, keys)
		if _, err := loaded(entry); err == nil {
			t.Errorf("%s beside a typed host is taken", what)
		}
	}
}

func TestKeys(t *testing.T) {
	const secret = "dk_0123456789abcdef"
	basic := base64.StdEncoding.EncodeToString([]byte("shop:pass:word"))
	for what, c := range map[string]struct {
		keys          string
		typed         map[string]string
		header, query string // what the check must send
		access        string
		send          connectors.Sent
		id            string
	}{
		"a header": {
			`"inputs":{"key":{"secret":true,"pattern":"^dk_"}},"send":{"header":"X-Api-Key","value":"{key}"}`,
			map[string]string{"key": secret},
			"X-Api-Key: " + secret, "", secret,
			connectors.Sent{Header: "X-Api-Key", Value: "{key}"},
			"77",
		},
		"a word before it": {
			`"inputs":{"key":{"secret":true}},"send":{"header":"Authorization","value":"Bearer {key}"}`,
			map[string]string{"key": secret},
			"Authorization: Bearer " + secret, "", secret,
			connectors.Sent{Header: "Authorization", Value: "Bearer {key}"},
			"77",
		},
		"what is no secret is filled in": {
			`"inputs":{"user":{},"key":{"secret":true}},"send":{"header":"Authorization","value":"token {user}:{key} v1"}`,
			map[string]string{"user": "Sok", "key": secret},
			"Authorization: token Sok:" + secret + " v1", "", secret,
			connectors.Sent{Header: "Authorization", Value: "token Sok:{key} v1"},
			"77",
		},
		"two secrets": {
			`"inputs":{"id":{"secret":true},"key":{"secret":true}},"send":{"header":"Authorization","value":"sso-key {id}:{key}"}`,
			map[string]string{"id": "i-1", "key": secret},
			"Authorization: sso-key i-1:" + secret, "", "i-1:" + secret,
			connectors.Sent{Header: "Authorization", Value: "sso-key {id}"},
			"77",
		},
		"none is called secret": {
			`"inputs":{"key":{}},"send":{"header":"X-Key","value":"{key}"}`,
			map[string]string{"key": secret},
			"X-Key: " + secret, "", secret,
			connectors.Sent{Header: "X-Key", Value: "{key}"},
			"77",
		},
		"Basic": {
			`"inputs":{"user":{},"password":{"secret":true}},"send":{"basic":["user","password"]}`,
			map[string]string{"user": "shop", "password": "pass:word"},
			"Authorization: Basic " + basic, "", basic,
			connectors.Sent{Header: "Authorization", Scheme: "Basic"},
			"77",
		},
		"Basic without a password": {
			`"inputs":{"key":{"secret":true},"password":{"secret":true,"optional":true}},"send":{"basic":["key","password"]}`,
			map[string]string{"key": "k"},
			"Authorization: Basic azo=", "", "azo=",
			connectors.Sent{Header: "Authorization", Scheme: "Basic"},
			"77",
		},
		"more headers": {
			`"inputs":{"app":{},"key":{"secret":true},"note":{"optional":true}},"send":{"header":"X-Key","value":"{key}","headers":{"X-App-Id":"app {app}","Api-Version":"2026-01","X-Note":"{note}"}}`,
			map[string]string{"app": "a-1", "key": secret},
			"X-Key: " + secret, "", secret,
			connectors.Sent{Header: "X-Key", Value: "{key}", Headers: map[string]string{"X-App-Id": "app a-1", "Api-Version": "2026-01"}},
			"77",
		},
		"more headers beside Basic": {
			`"inputs":{"user":{},"password":{"secret":true},"firm":{}},"send":{"basic":["user","password"],"headers":{"X-Firm":"{firm}"}}`,
			map[string]string{"user": "shop", "password": "pass:word", "firm": "7"},
			"Authorization: Basic " + basic, "", basic,
			connectors.Sent{Header: "Authorization", Scheme: "Basic", Headers: map[string]string{"X-Firm": "7"}},
			"77",
		},
		"a parameter": {
			`"inputs":{"key":{"secret":true}},"send":{"query":"api_key"}`,
			map[string]string{"key": secret},
			"", "api_key=" + secret, secret,
			connectors.Sent{Query: "api_key"},
			"77",
		},
	} {
		answer := `200|{"id":77,"name":"Depot"}`
		base := serve(t, map[string]http.HandlerFunc{"GET /v1/me": func(w http.ResponseWriter, r *http.Request) {
			name, value, _ := strings.Cut(c.header, ": ")
			others := true
			for name, value := range c.send.Headers {
				others = others && r.Header.Get(name) == value
			}
			if r.Header.Get(name) != value || r.URL.RawQuery != c.query || !others {
				reply(w, 401, `{"error":"unauthorized %s"}`, secret)
				return
			}
			code, body, _ := strings.Cut(answer, "|")
			n := 0
			fmt.Sscan(code, &n)
			reply(w, n, "%s", body)
		}})
		entry := `[{"name":"depot","kind":"key","environment":"sandbox","check":{"url":"BASE/v1/me"},"account":{"id":"account.id","name":"account.name"},` + c.keys + `}]`
		k := connector(t, base, "depot", entry, nil).(connectors.KeyConnector)
		g, err := k.Authenticate(t.Context(), flow(), c.typed)
		if err != nil || g.Access != c.access || g.Type != connectors.KeyType || g.Lifetime != 0 || g.Account.ID != c.id || g.Account.Name != "Depot" || !reflect.DeepEqual(k.Send(g.Inputs), c.send) || !k.Proves() {
			t.Errorf("%s: %q sent as %+v, account %+v, %v", what, g.Access, k.Send(g.Inputs), g.Account, err)
			continue
		}
		if strings.Contains(fmt.Sprint(g.Account), secret) && what != "none is called secret" {
			t.Errorf("%s: a secret is part of the account: %+v", what, g.Account)
		}
		if token, err := k.Refresh(t.Context(), g); err != nil || token.Access != c.access || !k.Info().Renewable(g) {
			t.Errorf("%s: checked again: %v", what, err)
		}
		for said, want := range map[string]status.Outcome{
			`401|{}`: status.Rejected, `403|{"message":"forbidden"}`: status.Rejected, `400|{"error":"bad api key"}`: status.Rejected, `500|{}`: status.Temporary, `503|x`: status.Temporary, `429|{}`: status.RateLimited,
			`404|{}`: status.Temporary, `403|<html>`: status.Temporary, `200|<html>`: status.Temporary, `200|{"ok":false,"error":"invalid_auth"}`: status.Rejected, `200|{"ok":false,"error":"maintenance"}`: status.Temporary, `302|`: status.Temporary,
		} {
			answer = said
			ctx, calls := connectors.WithCalls(t.Context())
			token, err := k.Refresh(ctx, g)
			if connectors.OutcomeOf(err) != want || token.Access != "" || strings.Contains(fmt.Sprintf("%v %+v", err, calls.All), secret) {
				t.Errorf("%s, and the provider answers %s: %v, want %s", what, said, err, want)
			}
		}
		answer = `401|{}`
		var input *connectors.InputError
		if _, err := k.Authenticate(t.Context(), flow(), c.typed); !errors.As(err, &input) || input.Code != connectors.InputRefused {
			t.Errorf("%s is refused: %v", what, err)
		}
	}
}

func TestAKeyWithoutACheckIsKeptUnproved(t *testing.T) {
	c, err := loaded(`{"name":"depot","kind":"key","environment":"sandbox","inputs":{"key":{"secret":true,"pattern":"^dk_"}},"send":{"header":"X-Api-Key","value":"{key}"}}`)
	if err != nil {
		t.Fatal(err)
	}
	k := c.(connectors.KeyConnector)
	g, err := k.Authenticate(t.Context(), flow(), map[string]string{"key": " dk_1 "})
	if err != nil || k.Proves() || g.Access != "dk_1" || g.Account.ID != "" || !g.Account.Own || k.Info().Renewable(g) {
		t.Errorf("%q, account %+v, %v", g.Access, g.Account, err)
	}
	var input *connectors.InputError
	if _, err := k.Authenticate(t.Context(), flow(), map[string]string{"key": "sk_1"}); !errors.As(err, &input) || input.Code != connectors.InputMalformed {
		t.Errorf("against its pattern: %v", err)
	}
	for what, entry := range map[string]string{
		"no send":                 `"inputs":{"key":{}}`,
		"no inputs":               `"send":{"header":"X","value":"x"}`,
		"two ways to send":        `"inputs":{"key":{}},"send":{"header":"X","value":"{key}","query":"k"}`,
		"a value without a name":  `"inputs":{"key":{}},"send":{"header":"X","value":"x"}`,
		"a header that is none":   `"inputs":{"key":{}},"send":{"header":"X Y","value":"{key}"}`,
		"a basic that is unknown": `"inputs":{"key":{}},"send":{"basic":["{key}","{password}"]}`,
		"a basic of texts alone":  `"inputs":{"key":{}},"send":{"basic":["user","password"]}`,
		"three halves":            `"inputs":{"key":{}},"send":{"basic":["key","a","b"]}`,
		"Basic twice":             `"inputs":{"key":{},"b":{}},"send":{"basic":["key",""],"headers":{"authorization":"Bearer {b}"}}`,
		"a path of no name":       `"inputs":{"key":{}},"send":{"path":"/v1"}`,
		"a path that begins late": `"inputs":{"key":{}},"send":{"path":"bot{key}"}`,
		"a path with a query":     `"inputs":{"key":{}},"send":{"path":"/bot{key}?a=b"}`,
		"a check beside the path": `"inputs":{"key":{"secret":true}},"send":{"path":"/bot{key}"},"check":{"url":"https://api.example.com/getMe"}`,
		"a key in a GET's body":   `"inputs":{"key":{"secret":true}},"send":{"body":"key"},"check":{"url":"https://api.example.com/ping"}`,
		"a body and account.url":  `"inputs":{"key":{"secret":true}},"send":{"body":"key"},"account":{"url":"https://api.example.com/me","id":"account.id"}`,
		"a body of nothing":       `"body":"json","inputs":{"key":{"secret":true}},"send":{"query":"key"},"check":{"url":"https://api.example.com/ping"}`,
		"a parameter twice":       `"inputs":{"key":{"secret":true},"app":{}},"send":{"query":"key","params":{"key":"{app}"}}`,
		"a parameter of both":     `"inputs":{"key":{"secret":true},"app":{}},"send":{"query":"key","params":{"app":"{app}"}},"check":{"url":"https://api.example.com/","params":{"app":"1"}}`,
		"an unknown parameter":    `"inputs":{"key":{"secret":true}},"send":{"query":"key"},"check":{"url":"https://api.example.com/","params":{"app":"{app}"}}`,
		"a key of another kind":   `"inputs":{"key":{}},"send":{"header":"X","value":"{key}"},"token_url":"https://api.example.com/t"`,
		"a secret in an address":  `"inputs":{"key":{"secret":true}},"send":{"header":"X","value":"{key}"},"check":{"url":"https://{key}.example.com/"}`,
		"a method that changes":   `"inputs":{"key":{}},"send":{"header":"X","value":"{key}"},"check":{"url":"https://api.example.com/","method":"DELETE"}`,
	} {
		if _, err := loaded(`{"name":"depot","kind":"key","environment":"sandbox",` + entry + `}`); err == nil {
			t.Errorf("an entry with %s is taken", what)
		}
	}
}

// TestGrantTypesOfClientCredentials: a client that is the merchant's may be asked for in the provider's own words.
func TestGrantTypesOfClientCredentials(t *testing.T) {
	for what, c := range map[string]struct{ keys, want string }{
		"usual":                      {`"scopes":["a","b"]`, "client_credentials, a b"},
		"a grant type of its own":    {`"scopes":["a"],"token_params":{"grant_type":"account_credentials"}`, "account_credentials, a"},
		"a scope with what is typed": {`"token_params":{"scope":"https://{shop}.example/.default"}`, "client_credentials, https://canal.example/.default"},
	} {
		asked := ""
		provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked = r.PostFormValue("grant_type") + ", " + r.PostFormValue("scope")
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":60}`))
		}))
		defer provider.Close()
		got, err := loaded(`{"name":"rooms","kind":"client_credentials","environment":"sandbox","token_url":"` + provider.URL + `/{shop}",` + c.keys + `,
			"inputs":{"client_id":{},"client_secret":{"secret":true},"shop":{"kind":"segment"}}}`)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		_, err = got.(connectors.CredentialConnector).Authenticate(t.Context(), flow(), map[string]string{"client_id": "id", "client_secret": "secret", "shop": "canal"})
		if err != nil || asked != c.want {
			t.Errorf("%s: asked for %q, %v, want %q", what, asked, err, c.want)
		}
	}
	if _, err := loaded(`{"name":"rooms","kind":"client_credentials","environment":"sandbox","token_url":"https://x.example","scopes":["a"],"token_params":{"scope":"b"},
		"inputs":{"client_id":{},"client_secret":{"secret":true}}}`); err == nil {
		t.Error("a scope is taken beside scopes")
	}
}

func TestFaultsOfMoreHeaders(t *testing.T) {
	for _, one := range []struct{ headers, fault string }{
		{`{"X-App-Id":"{app}"}`, ""},
		{`{"Api-Version":"2026-01"}`, ""},
		{`{"X-App-Id":"{nobody}"}`, "send.headers.X-App-Id names {nobody}, and there is no such input"},
		{`{"X-Key-Again":"{key}"}`, ""},
		{`{"x-key":"1"}`, "send.headers.x-key is no header that may go with the key"},
		{`{"X App":"1"}`, "send.headers.X App is no header that may go with the key"},
		{`{"X-App":"1\r\nX-Other: 2"}`, "send.headers.X-App is no header that may go with the key"},
	} {
		_, err := loaded(`{"name":"depot","kind":"key","environment":"sandbox","inputs":{"app":{},"key":{"secret":true}},
			"account":{"keep":{"app":"input.app"}},"send":{"header":"X-Key","value":"{key}","headers":` + one.headers + `}}`)
		if (err == nil) != (one.fault == "") || err != nil && !strings.Contains(err.Error(), one.fault) {
			t.Errorf("%s: %v, want %q", one.headers, err, one.fault)
		}
	}
}
