package providers_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"patchbay/docs/providers"
	"patchbay/internal/connectors"
	"patchbay/internal/sandbox"
)

const appURL = "http://127.0.0.1:4242"

// want is what becomes of an entry when the merchant chooses each of two accounts.
type want struct {
	first, second account
	life          time.Duration // of the token; 0 if no end is known
	renewable     bool
	revocable     bool
	wordless      bool // it refuses our secret in words that do not tell whose fault it is
}

type account struct {
	typed    map[string]string // in the fields before leaving
	chosen   string            // on the consent page; "" if typed names it
	id, name string
	values   map[string]any // of account.values
}

func wants() map[string]want {
	shop := func(field, value, id string, values map[string]any) account {
		return account{typed: map[string]string{field: value}, chosen: id, id: id, name: value, values: values}
	}
	return map[string]want{
		"google": {
			account{chosen: "108123456789012345678", id: "108123456789012345678", name: "Sokha Chan"},
			account{chosen: "117999888777666555444", id: "117999888777666555444", name: "Élodie Tremblay"},
			time.Hour, true, true, false,
		},
		"microsoft": {
			account{chosen: "11111111-aaaa-4bbb-8ccc-000000000001", id: "11111111-aaaa-4bbb-8ccc-000000000001", name: "sokha@shop.example", values: map[string]any{"tenant": "aaaabbbb-0000-cccc-1111-dddd2222eeee"}},
			account{chosen: "22222222-aaaa-4bbb-8ccc-000000000002", id: "22222222-aaaa-4bbb-8ccc-000000000002", name: "jan@depot.example", values: map[string]any{"tenant": "99998888-7777-4666-8555-444433332222"}},
			time.Hour, true, false, false,
		},
		"shopify": {
			shop("shop", "canal-street", "canal-street", map[string]any{"shop": "canal-street"}),
			account{typed: map[string]string{"shop": "https://Harbour.myshopify.com/admin"}, chosen: "harbour", id: "harbour", name: "harbour", values: map[string]any{"shop": "harbour"}},
			time.Hour, true, false, false,
		},
		"square": {
			account{chosen: "MLV1A2B3C4D5E", id: "MLV1A2B3C4D5E", values: map[string]any{"merchant_id": "MLV1A2B3C4D5E"}},
			account{chosen: "MLZ9Y8X7W6V5U", id: "MLZ9Y8X7W6V5U"},
			30 * 24 * time.Hour, true, true, true,
		},
		"stripe": {
			account{chosen: "acct_1AbCdEfGhIjKlMnO", id: "acct_1AbCdEfGhIjKlMnO", values: map[string]any{"stripe_user_id": "acct_1AbCdEfGhIjKlMnO", "livemode": false}},
			account{chosen: "acct_1PqRsTuVwXyZaBcD", id: "acct_1PqRsTuVwXyZaBcD"},
			0, true, true, false,
		},
		"quickbooks": { // two companies of one bookkeeper
			account{chosen: "4620816365300000001", id: "4620816365300000001", values: map[string]any{"realm_id": "4620816365300000001"}},
			account{chosen: "4620816365300000002", id: "4620816365300000002", values: map[string]any{"realm_id": "4620816365300000002"}},
			time.Hour, true, true, false,
		},
		"xero": { // two organisations of one bookkeeper
			account{chosen: "70784a63-d24b-46a9-a4db-0e70a274b056", id: "70784a63-d24b-46a9-a4db-0e70a274b056", name: "Maple Florist", values: map[string]any{"tenant_id": "70784a63-d24b-46a9-a4db-0e70a274b056"}},
			account{chosen: "e0da6937-de07-4a14-adee-37abfac298ce", id: "e0da6937-de07-4a14-adee-37abfac298ce", name: "Harbour Bakery"},
			30 * time.Minute, true, true, false,
		},
		"hubspot": {
			account{chosen: "62515", id: "62515", values: map[string]any{"portal_id": "62515"}},
			account{chosen: "1234567", id: "1234567"},
			30 * time.Minute, true, true, false,
		},
		"slack": {
			account{chosen: "T0CANAL01", id: "T0CANAL01", name: "Canal Street Café", values: map[string]any{"team_id": "T0CANAL01", "bot_user_id": "U0KRQLJ9H"}},
			account{chosen: "T0HARBOUR2", id: "T0HARBOUR2", name: "Harbour Bakery"},
			0, false, true, false,
		},
		"notion": {
			account{chosen: "9903dfac-c0d2-4a3e-9f9f-1d9b1e8b7f11", id: "9903dfac-c0d2-4a3e-9f9f-1d9b1e8b7f11", name: "Canal Street wiki", values: map[string]any{"bot_id": "bot-of-9903dfac-c0d2-4a3e-9f9f-1d9b1e8b7f11"}},
			account{chosen: "11aa22bb-c0d2-4a3e-9f9f-1d9b1e8b7f22", id: "11aa22bb-c0d2-4a3e-9f9f-1d9b1e8b7f22", name: "Harbour notes"},
			0, true, true, false,
		},
		"zendesk": {
			shop("subdomain", "canal-street", "canal-street", map[string]any{"subdomain": "canal-street"}),
			shop("subdomain", "harbour", "harbour", nil), 30 * time.Minute, true, true, false,
		},
		"amazon-sp": {
			account{typed: map[string]string{"marketplace": "us"}, chosen: "A3CANALSTREET", id: "A3CANALSTREET", values: map[string]any{"selling_partner_id": "A3CANALSTREET", "marketplace": "us"}},
			account{typed: map[string]string{"marketplace": "uk"}, chosen: "A9HARBOURSHOP", id: "A9HARBOURSHOP"},
			time.Hour, true, false, false,
		},
		"github": {
			account{chosen: "583231", id: "583231", name: "octo-sokha", values: map[string]any{"login": "octo-sokha"}},
			account{chosen: "9919", id: "9919", name: "harbour-jan"},
			0, false, true, false,
		},
		"zoho": {
			account{typed: map[string]string{"server": "eu"}, chosen: "20078123456", id: "20078123456", name: "Canal Street Café", values: map[string]any{"location": "eu"}},
			account{typed: map[string]string{"server": "us"}, chosen: "20078999999", id: "20078999999", name: "Harbour Bakery"},
			time.Hour, true, true, false,
		},
		"linkedin": {
			account{chosen: "782bbtaQ", id: "782bbtaQ", name: "Sokha Chan"},
			account{chosen: "99aaBBcC", id: "99aaBBcC", name: "Jan de Vries"},
			60 * 24 * time.Hour, false, false, false,
		},
		"mailchimp": {
			account{chosen: "6f4e0c9a11d2b3", id: "6f4e0c9a11d2b3", name: "Canal Street Café", values: map[string]any{"dc": "us6"}},
			account{chosen: "8a7b6c5d44e3f2", id: "8a7b6c5d44e3f2", name: "Harbour Bakery", values: map[string]any{"dc": "us14"}},
			0, false, false, false,
		},
		"salesforce": {
			account{typed: map[string]string{"server": "production"}, chosen: "00D50000000IZ3ZEAW", id: "00D50000000IZ3ZEAW", name: "Canal Street Café", values: map[string]any{"organization_id": "00D50000000IZ3ZEAW"}},
			account{typed: map[string]string{"server": "sandbox"}, chosen: "00D50000000HARBOUR", id: "00D50000000HARBOUR", name: "Harbour Bakery"},
			0, true, true, false,
		},
		"pipedrive": {
			account{chosen: "7801001", id: "7801001", name: "Canal Street Café", values: map[string]any{"company_id": "7801001"}},
			account{chosen: "7801002", id: "7801002", name: "Harbour Bakery"},
			time.Hour, true, true, false,
		},
		"bigcommerce": {
			account{typed: map[string]string{"store_hash": "wrlq6wk8"}, chosen: "stores/wrlq6wk8", id: "stores/wrlq6wk8", name: "wrlq6wk8", values: map[string]any{"context": "stores/wrlq6wk8"}},
			account{typed: map[string]string{"store_hash": "harbour1"}, chosen: "stores/harbour1", id: "stores/harbour1", name: "harbour1"},
			0, false, false, false,
		},
		"clover": {
			account{chosen: "RCTSTAVI0010002", id: "RCTSTAVI0010002", values: map[string]any{"merchant_id": "RCTSTAVI0010002", "employee_id": "employee-sokha"}},
			account{chosen: "HARBOUR00000002", id: "HARBOUR00000002"},
			30 * time.Minute, true, false, false,
		},
		"brevo": {
			account{typed: map[string]string{"key": "xkeysib-1f0c2d7bcanal0street-AbCdEf"}, id: "sokha@shop.example", name: "Canal Street Café"},
			account{typed: map[string]string{"key": "xkeysib-9a3f92d6harbour0bakery-GhIjKl"}, id: "jan@shop.example", name: "Harbour Bakery"},
			0, true, false, false,
		},
		"datadog": {
			account{typed: map[string]string{"site": "us1", "api_key": "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "app_key": "c0a1c0a1c0a1c0a1c0a1c0a1c0a1c0a1c0a1c0a1"}, id: "6f4e0c9a-11d2-4b3c-8d7e-000000000001", values: map[string]any{"site": "us1"}},
			account{typed: map[string]string{"site": "us1", "api_key": "9f8e7d6c5b4a39281706f5e4d3c2b1a0", "app_key": "4a4b4a4b4a4b4a4b4a4b4a4b4a4b4a4b4a4b4a4b"}, id: "6f4e0c9a-11d2-4b3c-8d7e-000000000002"},
			0, true, false, false,
		},
		"twilio": {
			account{typed: map[string]string{"sid": "AC0123456789abcdef0123456789abcdef", "auth_token": "7f3a5c9e1b2d4f608a6c0e1f2b3d4c5e"}, id: "AC0123456789abcdef0123456789abcdef", name: "Canal Street Café", values: map[string]any{"sid": "AC0123456789abcdef0123456789abcdef"}},
			account{typed: map[string]string{"sid": "ACfedcba9876543210fedcba9876543210", "auth_token": "0a1b2c3d4e5f60718293a4b5c6d7e8f9"}, id: "ACfedcba9876543210fedcba9876543210", name: "Harbour Bakery"},
			0, true, false, false,
		},
	}
}

// TestEveryPageIsProved takes the entry out of each page, points it to the imitation that insists on the provider's rules, and goes the
// whole way: connect, identify, call, refresh, revoke.
func TestEveryPageIsProved(t *testing.T) {
	pages, err := providers.Pages()
	if err != nil {
		t.Fatal(err)
	}
	all := wants()
	for _, page := range pages {
		w, ok := all[page.Name]
		if !ok {
			t.Errorf("%s is proved by nothing", page.Name)
			continue
		}
		delete(all, page.Name)
		t.Run(page.Name, func(t *testing.T) {
			t.Parallel()
			p := start(t, page)
			first, second := p.connect(t, w.first), p.connect(t, w.second)
			if first.Account.ID == second.Account.ID {
				t.Errorf("two accounts are one, %s", first.Account.ID)
			}
			if first.Lifetime != w.life && (first.Lifetime-w.life).Abs() > 2*time.Second {
				t.Errorf("the token lasts %v, want %v", first.Lifetime, w.life)
			}
			if len(first.Missing) > 0 {
				t.Errorf("scopes are missing: %v", first.Missing)
			}
			p.mustAnswer(t, first, true)
			p.mustAnswer(t, second, true)
			if p.connector.Info().Renewable(first) != w.renewable {
				t.Errorf("renewable is %t", p.connector.Info().Renewable(first))
			}
			if w.renewable {
				for range 2 {
					first = p.refresh(t, first)
					p.mustAnswer(t, first, true)
				}
			}
			if double := p.box.DoubleSpends(); len(double) > 0 {
				t.Errorf("a refresh token was sent twice: %v", double)
			}
			p.revoke(t, first, w.revocable)
			p.mustAnswer(t, second, true)
			if p.isRedirector() && w.renewable {
				p.box.Revoke(page.Name, "")
				_, err := p.connector.Refresh(t.Context(), second)
				if rejected := (*connectors.RejectedError)(nil); !errors.As(err, &rejected) || rejected.ClientFault {
					t.Errorf("a refresh after the merchant ended access: %v, want it rejected", err)
				}
			}
		})
	}
	for name := range all {
		t.Errorf("there is no page for %s", name)
	}
}

// TestTheProvidersNoIsHeard: each provider declines, and refuses our secret, in its own words.
func TestTheProvidersNoIsHeard(t *testing.T) {
	pages, err := providers.Pages()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		t.Run(page.Name, func(t *testing.T) {
			t.Parallel()
			w, p := wants()[page.Name], start(t, page)
			if !p.isRedirector() {
				wrong := map[string]string{}
				for name, value := range w.first.typed {
					wrong[name] = value[:len(value)-1] + "0"
				}
				_, err := p.connector.(connectors.CredentialConnector).Authenticate(t.Context(), p.flow(), wrong)
				if rejected, input := (*connectors.RejectedError)(nil), (*connectors.InputError)(nil); !errors.As(err, &rejected) && !errors.As(err, &input) {
					t.Errorf("a wrong key: %v", err)
				}
				return
			}
			f, callback := p.visit(t, w.first, "deny")
			if _, err := p.connector.(connectors.Redirector).Exchange(t.Context(), f, callback); !errors.As(err, new(*connectors.AccessDeniedError)) {
				t.Errorf("declined: %v", err)
			}
			f, callback = p.visit(t, w.first, "allow")
			if err := p.box.SetFault(page.Name, sandbox.Fault{Kind: sandbox.ClientRefused, Endpoint: "token"}); err != nil {
				t.Fatal(err)
			}
			_, err := p.connector.(connectors.Redirector).Exchange(t.Context(), f, callback)
			if rejected := (*connectors.RejectedError)(nil); (!errors.As(err, &rejected) || !rejected.ClientFault) && !(w.wordless && err != nil) {
				t.Errorf("our secret is refused: %v, want it to be our fault", err)
			}
		})
	}
}

// TestScopesThatWereUnticked: a person grants less than was asked for.
func TestScopesThatWereUnticked(t *testing.T) {
	pages, err := providers.Pages()
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages {
		if page.Name != "google" {
			continue
		}
		p := start(t, page)
		f, callback := p.visit(t, wants()["google"].first, "allow", "ticked=openid", "ticked=email", "ticked=profile")
		g, err := p.connector.(connectors.Redirector).Exchange(t.Context(), f, callback)
		if err != nil || len(g.Missing) != 1 || g.Missing[0] != "https://www.googleapis.com/auth/calendar" {
			t.Errorf("missing %v, %v", g.Missing, err)
		}
	}
}

// proof is a page's entry at work against its imitation.
type proof struct {
	page      providers.Page
	box       *sandbox.Sandbox
	connector connectors.Connector
	attempts  int
}

func start(t *testing.T, page providers.Page) *proof {
	t.Helper()
	box, err := sandbox.Start("127.0.0.1:0", sandbox.Options{AppURLs: []string{appURL}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	secrets := box.KnownSettings()
	all, err := connectors.Load(func(name string) string { return secrets[name] }, []byte("["+string(box.Local(page.Entry))+"]"), connectors.NewClient(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	return &proof{page: page, box: box, connector: all[len(all)-1].Connector}
}

func (p *proof) isRedirector() bool {
	_, ok := p.connector.(connectors.Redirector)
	return ok
}

func (p *proof) flow() connectors.Flow {
	p.attempts++
	return connectors.Flow{
		State: fmt.Sprintf("state-%d", p.attempts), Verifier: fmt.Sprintf("verifier-%d-0123456789012345678901234567890123456789", p.attempts),
		CallbackURL: appURL + "/connect/" + p.page.Name + "/callback",
	}
}

func (p *proof) connect(t *testing.T, a account) (g connectors.Grant) {
	t.Helper()
	var err error
	if typed, ok := p.connector.(connectors.CredentialConnector); ok {
		g, err = typed.Authenticate(t.Context(), p.flow(), a.typed)
	} else {
		f, callback := p.visit(t, a, "allow")
		g, err = p.connector.(connectors.Redirector).Exchange(t.Context(), f, callback)
	}
	if err != nil {
		t.Fatalf("connecting %s: %v", a.id, err)
	}
	if g.Account.ID != a.id || a.name != "" && g.Account.Name != a.name {
		t.Errorf("the account is %q, %q, want %q, %q", g.Account.ID, g.Account.Name, a.id, a.name)
	}
	for name, value := range a.values {
		if fmt.Sprint(g.Account.Values[name]) != fmt.Sprint(value) {
			t.Errorf("account.values.%s is %v, want %v", name, g.Account.Values[name], value)
		}
	}
	return g
}

var (
	formAction = regexp.MustCompile(`<form method="post" action="([^"]*)"`)
	hidden     = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	unescape   = strings.NewReplacer("&amp;", "&", "&#43;", "+", "&#34;", `"`, "&#39;", "'", "&lt;", "<", "&gt;", ">")
)

// visit goes to the provider as a browser does, answers its page, and comes back with the callback's query.
func (p *proof) visit(t *testing.T, a account, decision string, more ...string) (connectors.Flow, url.Values) {
	t.Helper()
	f := p.flow()
	if asker, ok := p.connector.(connectors.Asker); ok {
		kept, err := asker.CheckInputs(a.typed)
		if err != nil {
			t.Fatalf("typing %v: %v", a.typed, err)
		}
		f.Inputs = kept
	}
	location, err := p.connector.(connectors.Redirector).AuthorizationURL(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	browser := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Timeout: 10 * time.Second}
	res, err := browser.Get(location)
	if err != nil {
		t.Fatal(err)
	}
	html, _ := io.ReadAll(res.Body)
	res.Body.Close()
	action := formAction.FindSubmatch(html)
	if res.StatusCode != http.StatusOK || action == nil {
		t.Fatalf("%s\nis answered %d, to %q:\n%s", location, res.StatusCode, res.Header.Get("Location"), html)
	}
	form := url.Values{"account": {a.chosen}, "decision": {decision}}
	for _, m := range hidden.FindAllSubmatch(html, -1) {
		form.Add(unescape.Replace(string(m[1])), unescape.Replace(string(m[2])))
	}
	for _, one := range more {
		name, value, _ := strings.Cut(one, "=")
		form.Add(name, value)
	}
	if len(more) == 0 {
		form.Del("ticked") // as if every box stayed ticked
	}
	res, err = browser.PostForm(p.box.BaseURL()+string(action[1]), form)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	back, err := res.Location()
	if err != nil || !strings.HasPrefix(back.String(), f.CallbackURL) || back.Query().Get("state") != f.State {
		t.Fatalf("the provider sends the browser to %v (%d, %v)", back, res.StatusCode, err)
	}
	return f, back.Query()
}

func (p *proof) refresh(t *testing.T, g connectors.Grant) connectors.Grant {
	t.Helper()
	token, err := p.connector.Refresh(t.Context(), g)
	if err != nil || token.Access == "" {
		t.Fatalf("refresh: %v", err)
	}
	g.Access = token.Access
	if token.Refresh != "" {
		g.Refresh = token.Refresh
	}
	return g
}

func (p *proof) revoke(t *testing.T, g connectors.Grant, revocable bool) {
	t.Helper()
	revoker, ok := p.connector.(connectors.Revoker)
	var err error
	if ok {
		err = revoker.Revoke(t.Context(), g)
	}
	switch {
	case revocable && (!ok || err != nil):
		t.Errorf("revoking: %t, %v", ok, err)
	case revocable:
		p.mustAnswer(t, g, false)
	case ok && !errors.Is(err, connectors.ErrNotOffered):
		t.Errorf("there is nothing to revoke with: %v", err)
	}
}

// mustAnswer makes the call that the page names, with what the platform gets.
func (p *proof) mustAnswer(t *testing.T, g connectors.Grant, good bool) {
	t.Helper()
	lines := strings.Split(p.page.Call, "\n")
	fill := func(text string) string {
		text = strings.ReplaceAll(text, "{access_token}", g.Access)
		for name, value := range g.Account.Values {
			text = strings.ReplaceAll(text, "{"+name+"}", fmt.Sprint(value))
		}
		return text
	}
	method, address, _ := strings.Cut(lines[0], " ")
	req, err := http.NewRequest(method, fill(p.box.LocalAddress(address)), nil)
	if err != nil || strings.Contains(req.URL.String(), "%7B") {
		t.Fatalf("the call %s cannot be made: %v", lines[0], err)
	}
	for _, line := range lines[1:] {
		if line == "{send}" {
			for name, value := range sent(p.connector, g) {
				req.Header.Set(name, value)
			}
			continue
		}
		name, value, _ := strings.Cut(fill(line), ": ")
		req.Header.Set(name, value)
	}
	res, err := (&http.Client{Timeout: time.Minute}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if got := strings.Contains(string(body), `"account":"`); got != good {
		t.Errorf("%s %s of %s answers %d %s", method, req.URL, g.Account.ID, res.StatusCode, body)
	}
}

// sent returns the headers in which a program sends a typed key.
func sent(c connectors.Connector, g connectors.Grant) map[string]string {
	send := c.(connectors.KeyConnector).Send(g.Inputs)
	headers := maps.Clone(send.Headers)
	if headers == nil {
		headers = map[string]string{}
	}
	if headers[send.Header] = secretPlace.ReplaceAllLiteralString(send.Value, g.Access); send.Scheme != "" {
		headers[send.Header] = send.Scheme + " " + g.Access
	}
	return headers
}

var secretPlace = regexp.MustCompile(`\{\w+\}`)
