package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// TestALinkToAProviderThatAsks: the link fills in the form, what the merchant types prevails, and a mistake spends nothing.
func TestALinkToAProviderThatAsks(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		what, entry   string
		inputs        object            // of the link
		filled        map[string]string // fields as the page shows them
		wrong, right  []string          // what the merchant types
		mistake       string            // the state of the link after the wrong ones
		leaves        string            // where the browser is sent, "" for nowhere
		id            string
		input, unkept map[string]string
	}{
		{
			what: "a shop in the address",
			entry: `{"name":"books","title":"Books","authorize_url":"%[1]s/{shop}/{region}/authorize","token_url":"%[1]s/{shop}/{region}/token","client_id":"c","client_secret_env":"SECRET",
				"environment":"sandbox","account":{"id":"input.shop"},"inputs":{"shop":{"title":"Shop","suffix":".books.example"},"region":{"title":"Region","options":{"eu":"v1-eu","us":"v1-us"}}}}`,
			inputs: object{"shop": "ch168", "region": "us"}, filled: map[string]string{"shop": "ch168", "region": "us"},
			wrong: []string{"shop", "evil.example", "region", "us"}, right: []string{"shop", "ch169", "region", "us"}, mistake: "begun",
			leaves: "/ch169/v1-us/authorize", id: "ch169", input: map[string]string{"shop": "ch169", "region": "us"},
		},
		{
			what: "an option that there is not, and a value that is not a shop's",
			entry: `{"name":"books","title":"Books","authorize_url":"%[1]s/{shop}/{region}/authorize","token_url":"%[1]s/{shop}/{region}/token","client_id":"c","client_secret_env":"SECRET",
				"environment":"sandbox","account":{"id":"input.shop"},"inputs":{"shop":{"title":"Shop"},"region":{"title":"Region","options":{"eu":"v1-eu","us":"v1-us"}}}}`,
			inputs: object{"shop": `"><script>`, "region": "moon"}, filled: map[string]string{"shop": `"><script>`, "region": ""},
			wrong: []string{"shop", `"><script>`, "region", "moon"}, right: []string{"shop", "ch168", "region", "eu"}, mistake: "begun",
			leaves: "/ch168/v1-eu/authorize", id: "ch168", input: map[string]string{"shop": "ch168", "region": "eu"},
		},
		{
			what: "a key with a user",
			entry: `{"name":"books","title":"Books","kind":"key","environment":"sandbox","check":{"url":"%[1]s/me"},
				"inputs":{"user":{"title":"User"},"key":{"secret":true,"pattern":"^dk_","title":"Key"}},"send":{"header":"X-Api-Key","value":"{user}.{key}"},"account":{"id":"input.user"}}`,
			inputs: object{"user": "sok"}, filled: map[string]string{"user": "sok", "key": ""},
			wrong: []string{"user", "sok", "key", "dk_wrong"}, right: []string{"user", "sok", "key", "dk_right"}, mistake: "failed",
			id: "sok", input: map[string]string{"user": "sok"}, unkept: map[string]string{"the key": "dk_right", "the wrong key": "dk_wrong"},
		},
		{
			what: "client credentials of a region",
			entry: `{"name":"books","title":"Books","kind":"client_credentials","environment":"sandbox","token_url":"%[1]s/{region}/token",
				"inputs":{"region":{"title":"Region"},"client_id":{"title":"Id"},"client_secret":{"secret":true,"title":"Secret"}},"account":{"id":"input.client_id"}}`,
			inputs: object{"region": "eu", "client_id": "hotel-17"}, filled: map[string]string{"region": "eu", "client_id": "hotel-17", "client_secret": ""},
			wrong: []string{"region", "eu", "client_id", "hotel-17", "client_secret", "not-this-one"}, right: []string{"region", "eu", "client_id", "hotel-17", "client_secret", "right-one-of-hotel"}, mistake: "failed",
			id: "hotel-17", input: map[string]string{"region": "eu", "client_id": "hotel-17"}, unkept: map[string]string{"the secret": "right-one-of-hotel", "the wrong secret": "not-this-one"},
		},
		{
			what: "nothing filled in",
			entry: `{"name":"books","title":"Books","kind":"key","environment":"sandbox","check":{"url":"%[1]s/me"},
				"inputs":{"user":{"title":"User"},"key":{"secret":true,"title":"Key"}},"send":{"header":"X-Api-Key","value":"{user}.{key}"},"account":{"id":"input.user"}}`,
			filled: map[string]string{"user": "", "key": ""},
			wrong:  []string{"user", "sok", "key", ""}, right: []string{"user", "sok", "key", "dk_right"}, mistake: "failed",
			id: "sok", input: map[string]string{"user": "sok"},
		},
	} {
		t.Run(one.what, func(t *testing.T) {
			t.Parallel()
			provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, secret, _ := r.BasicAuth()
				typed, _ := url.QueryUnescape(secret)
				w.Header().Set("Content-Type", "application/json")
				if strings.HasSuffix(r.Header.Get("X-Api-Key"), "wrong") || typed == "not-this-one" || r.FormValue("client_secret") == "not-this-one" {
					w.WriteHeader(http.StatusUnauthorized)
					fmt.Fprint(w, `{"error":"invalid_client"}`)
					return
				}
				fmt.Fprint(w, `{"access_token":"access-of-the-provider","token_type":"bearer","expires_in":3600}`)
			}))
			t.Cleanup(provider.Close)
			s := newTestServer(t, withConnector(entryOf(t, fmt.Sprintf(one.entry, provider.URL))), leadsBack())
			program, p := s.program(pg.ID{}), s.visitor("")
			body := object{"provider": "books"}
			if one.inputs != nil {
				body["inputs"] = one.inputs
			}
			for _, refused := range []object{{"unheard": "x"}, {"key": "dk_right"}, {"client_secret": "s"}, {"user": strings.Repeat("x", 201)}} { // unknown here, or secret, or too long
				bad := object{"merchant": object{"external_id": "shop-17", "name": "CH168 Shop"}, "provider": "books", "inputs": refused}
				if code, problem := program.call("POST", "/api/v1/connect-links", bad, nil); code != http.StatusBadRequest || problem != "invalid" {
					t.Errorf("inputs %v: %d %s", refused, code, problem)
				}
			}
			made, path := program.link(body)
			page := p.get(path)
			wantH1(t, page, "Connect Books")
			for name, want := range one.filled {
				field := page.document().Find(`main [name="` + name + `"]`)
				if kind, _ := field.Attr("type"); kind == "radio" {
					field = field.Filter("[checked]")
				}
				if field.Is("select") {
					field = field.Find("option[selected]")
				}
				if got, _ := field.Attr("value"); got != want {
					t.Errorf("the field %s has %q, want %q", name, got, want)
				}
			}
			if strings.Contains(page.body, "<script>alert") || strings.Contains(page.body, `"><script>`) {
				t.Error("a value breaks out of its field")
			}
			if got := p.post(path, one.wrong...); got.status != http.StatusUnprocessableEntity && !strings.HasPrefix(got.location, "/flows/") {
				t.Errorf("a mistake: %d %q %s", got.status, got.location, got.h1())
			}
			if l := program.state(made.ID); string(l.State) != one.mistake || l.Connection != "" {
				t.Errorf("after a mistake: %+v", l)
			}
			left := p.post(path, one.right...)
			end := left.location
			if one.leaves != "" {
				if !strings.HasPrefix(left.location, provider.URL+one.leaves+"?") {
					t.Fatalf("left for %q", left.location)
				}
				end, _ = p.returns(left, "U1")
			}
			page = p.get(end)
			wantH1(t, page, booksConnected)
			l := program.state(made.ID)
			if back := wayBack(t, page); l.State != db.LinkConnected || back.Get("patchbay_state") != "connected" || back.Get("patchbay_connection") != l.Connection {
				t.Errorf("connected: %+v, %v", l, back)
			}
			var c struct {
				Account struct {
					ID    string            `json:"id"`
					Input map[string]string `json:"input"`
				} `json:"account"`
			}
			program.call("GET", "/api/v1/connections/"+l.Connection, nil, &c)
			if c.Account.ID != one.id || fmt.Sprint(c.Account.Input) != fmt.Sprint(one.input) {
				t.Errorf("the account is %+v", c.Account)
			}
			s.noSecrets(one.unkept)

			// A link to reconnect shows what was typed before, unless the link says something else.
			again, path := program.link(object{"provider": nil, "connection": l.Connection})
			page = p.get(path)
			for name, want := range one.input {
				if v, _ := page.document().Find(`main input[name="` + name + `"]`).First().Attr("value"); name != "region" && v != want {
					t.Errorf("reconnecting, the field %s has %q, want %q", name, v, want)
				}
			}
			left = p.post(path, one.right...)
			if one.leaves != "" {
				p.returns(left, "U1")
			}
			if got := program.state(again.ID); got.State != db.LinkConnected || got.Connection != l.Connection {
				t.Errorf("reconnected: %+v", got)
			}
		})
	}
}

// TestALinkWhoseProviderIsNotAsItWas opens links after what they are for has changed. None is a dead end.
func TestALinkWhoseProviderIsNotAsItWas(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}), leadsBack())
	ctx := context.Background()
	program, p := s.program(pg.ID{}), s.visitor("")

	// An incident: the merchant may connect all the same, since the provider may answer people.
	made, path := program.link(object{"provider": "acme"})
	if err := s.engine.OpenIncident(ctx, "acme", status.ReasonDeclared, audit.System); err != nil {
		t.Fatal(err)
	}
	_, page := p.comeBack(p.consent(p.begin(path).location, "acme-user-001", "allow"))
	if l := program.state(made.ID); l.State != db.LinkConnected || wayBack(t, page).Get("patchbay_state") != "connected" {
		t.Errorf("in an incident: %s, %s", l.State, page.h1())
	}
	connection := program.state(made.ID).Connection

	// The connection to reconnect has ended meanwhile, before the link was opened and after the browser left.
	pinned, path := program.link(object{"provider": nil, "connection": connection})
	opened := s.visitor("")
	wantH1(t, opened.get(path), "Reconnect Acme")
	second, secondPath := program.link(object{"provider": nil, "connection": connection})
	late := s.visitor("")
	left := late.begin(secondPath).location
	if code, problem := program.call("DELETE", "/api/v1/connections/"+connection, nil, nil); code != http.StatusOK {
		t.Fatalf("disconnect: %d %s", code, problem)
	}
	for _, got := range []answer{opened.get(path), opened.post(path), s.visitor("").get(path)} {
		if got.status != http.StatusGone || wayBack(t, got).Get("patchbay_state") != "failed" {
			t.Errorf("a link to what has ended: %d %s", got.status, got.h1())
		}
	}
	if l := program.state(pinned.ID); l.State != db.LinkOpen {
		t.Errorf("a link to what has ended: %s", l.State)
	}
	flow, page := late.comeBack(late.consent(left, "acme-user-001", "allow"))
	if page.has(`button[value="connect"]`) {
		late.post(flow+"/choice", "choice", "connect")
		page = late.get(flow)
	}
	l := program.state(second.ID)
	if back := wayBack(t, page); page.status != http.StatusOK || back.Get("patchbay_state") != string(l.State) {
		t.Errorf("what ended while the browser was away: %d %s, %s, %v", page.status, page.h1(), l.State, back)
	}
	if code, problem := program.call("POST", "/api/v1/connect-links", object{"merchant": object{"external_id": "shop-17"}, "connection": connection}, nil); problem != "invalid" {
		t.Errorf("a link to what has ended is made: %d %s", code, problem)
	}

	// The provider is not set up any more.
	gone, path := program.link(object{"provider": "flexiti"})
	anyProvider, anyPath := program.link(object{"provider": nil})
	for i := range s.server.Providers {
		if s.server.Providers[i].Name == "flexiti" {
			s.server.Providers[i].Connector = nil
		}
	}
	for _, got := range []answer{s.visitor("").get(path), s.visitor("").post(path, "client_id", "a", "client_secret", "b"), s.visitor("").get(anyPath + "?provider=flexiti")} {
		if got.status != http.StatusGone || wayBack(t, got).Get("patchbay_state") != "failed" {
			t.Errorf("a provider that is not set up: %d %s", got.status, got.h1())
		}
	}
	list := s.visitor("").get(anyPath)
	if list.status != http.StatusOK || list.has(`a[href$="?provider=flexiti"]`) || !list.has(`a[href$="?provider=acme"]`) {
		t.Errorf("the list of providers: %d %s", list.status, list.text("main"))
	}
	for _, id := range []pg.ID{gone.ID, anyProvider.ID} {
		if l := program.state(id); l.State != db.LinkOpen {
			t.Errorf("the link is spent: %s", l.State)
		}
	}
	for _, provider := range []string{"flexiti", "unheard-of"} {
		if code, problem := program.call("POST", "/api/v1/connect-links", object{"merchant": object{"external_id": "shop-17"}, "provider": provider}, nil); problem != "invalid" {
			t.Errorf("a link to %s is made: %d %s", provider, code, problem)
		}
	}
}
