package connectors

import (
	"encoding/json"
	"maps"
	"net/url"
	"os"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestKeysAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/connectors.md")
	if err != nil {
		t.Fatal(err)
	}
	var cells strings.Builder // the first of each row
	for line := range strings.Lines(string(page)) {
		if cell, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " |"); ok {
			cells.WriteString(cell + "\n")
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keysOf(reflect.TypeFor[Entry]()))) {
		if !strings.Contains(cells.String(), "`"+key+"`") {
			t.Errorf("docs/connectors.md has no row for %s", key)
		}
	}
}

// TestEntriesAreReadStrictly: every fault is said, with the key at which it is, and nothing is passed over.
func TestEntriesAreReadStrictly(t *testing.T) {
	for _, one := range []struct{ name, entry, faults string }{
		{"an unknown key", `{"nmae":"x"}`, "has the unknown key nmae: did you mean name?"},
		{"a key in capitals", `{"Name":"x"}`, "has the unknown key Name: did you mean name?"},
		{"a key twice", `{"name":"x","name":"y"}`, "has the key name twice"},
		{"an unknown key inside account", `{"account":{"idd":"answer.id"}}`, "account has the unknown key idd"},
		{"an unknown key inside revoke", `{"revoke":{"urls":""}}`, "revoke has the unknown key urls"},
		{"an unknown key inside an input", `{"inputs":{"shop":{"sufix":"x"}}}`, "inputs.shop has the unknown key sufix: did you mean suffix?"},
		{"an input twice", `{"inputs":{"shop":{},"shop":{}}}`, "inputs has the key shop twice"},
		{"an option that is no text", `{"inputs":{"shop":{"options":{"eu":1}}}}`, "inputs.shop.options.eu has the wrong type"},
		{"a parameter that is no text", `{"token_params":{"expiring":1}}`, "token_params.expiring has the wrong type"},
		{"parameters in a list", `{"token_params":["a"]}`, "token_params must be an object"},
		{"a path that is no text", `{"account":{"keep":{"a":["answer.a"]}}}`, "account.keep.a has the wrong type"},
		{"account in short", `{"account":"answer.id"}`, "account must be an object"},
		{"revoke true", `{"revoke":true}`, "revoke must be an object"},
		{"an unknown word", `{"client_auth":"jwt"}`, "client_auth must be basic, post, none or private_key_jwt"},
		{"an unknown word within", `{"revoke":{"as":"me"}}`, "revoke.as must be client, token or secret"},
		{"a separator", `{"scope_separator":";"}`, `scope_separator must be " " or ","`},
		{"a wrong duration", `{"grant_life":"1 year"}`, "grant_life must be a duration such as 168h, of a minute or more"},
		{"a number as duration", `{"grant_life":8760}`, "grant_life has the wrong type"},
		{"a language that no page has", `{"description":{"de":"x"}}`, "description has the unknown language de: it must be en, km or fr"},
		{"pkce as a text", `{"pkce":"false"}`, "pkce has the wrong type"},
		{"two at once", `{"pkce":0,"body":"xml"}`, "pkce has the wrong type\nbody must be form or json"},
		{"a list", `["name"]`, "must be an object"},
		{"null", `null`, "must be an object"},
		{"null as left out", `{"account":null,"revoke":null,"pkce":null,"inputs":null}`, ""},
	} {
		_, faults, err := ReadEntries([]byte("[" + one.entry + "]"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(faults[0], "\n"); got != one.faults {
			t.Errorf("%s: %q, want %q", one.name, got, one.faults)
		}
	}
}

// TestEntriesAreReadWhole reads each key of the design once.
func TestEntriesAreReadWhole(t *testing.T) {
	const file = `[{"name":"a","inputs":{"z":{"title":"Z"},"b":{"title":{"en":"B","km":"ខ"},"options":{"us":"u.example","eu":"e.example"}}},"revoke":false,"pkce":false,
		"account":{"id":"account.0.id","keep":{"k":"callback.k"}},"grant_life":"8760h","send":{"basic":["z","b"]},"description":"D"},
		{"name":"b","revoke":{"url":"https://x.example","ends":"account"}}]`
	entries, faults, err := ReadEntries([]byte(file))
	if err != nil || faults[0] != nil || faults[1] != nil {
		t.Fatal(err, faults)
	}
	a, b := entries[0], entries[1]
	if a.Inputs[0].Name != "z" || a.Inputs[1].Name != "b" || a.Inputs[1].Options[0] != (Option{"us", "u.example"}) || a.Inputs[1].Title.In("km") != "ខ" || a.Inputs[1].Title.In("fr") != "B" {
		t.Errorf("inputs %+v: in the order of the file", a.Inputs)
	}
	if !a.Revoke.Never || *a.PKCE || a.Account.ID != "account.0.id" || a.Account.Keep["k"] != "callback.k" || a.Send.Basic[1] != "b" || a.Description.In("km") != "D" {
		t.Errorf("%+v", a)
	}
	if b.Revoke.Never || b.Revoke.Ends != "account" || b.Revoke.URL == "" {
		t.Errorf("%+v", b.Revoke)
	}
}

func FuzzReadEntries(f *testing.F) {
	f.Add(`[{"name":"a","inputs":{"z":{"options":{"a":"b"}}},"revoke":false,"account":{"keep":{"a":"b"}}}]`)
	f.Add(`[{"revoke":{"params":{"a":null}}},{"description":{"en":1}},[],null,1]`)
	f.Fuzz(func(t *testing.T, file string) {
		entries, faults, err := ReadEntries([]byte(file))
		if err == nil && (len(entries) != len(faults) || !json.Valid([]byte(file))) {
			t.Errorf("%d entries, %d lists of faults", len(entries), len(faults))
		}
	})
}

// FuzzFillAddress: whatever a value holds, the address keeps its scheme, host, port and number of segments, and no other parameter
// appears.
func FuzzFillAddress(f *testing.F) {
	for _, v := range []string{"a", "..", ".", "../..", "%2e%2e", "a/b", "a?b=c", "a#b", `\`, "@evil.example", ":80", "ឯ", "a&b=c", "\x00", "a b", "+", "{x}", "//evil.example", strings.Repeat("a", 501)} {
		f.Add(v, v)
	}
	const template = "https://api.example.com:8443/v1/{a}/end?x=1&q={b}&y={a}"
	f.Fuzz(func(t *testing.T, a, b string) {
		filled := fillAddress(template, func(name string) string { return map[string]string{"a": a, "b": b}[name] })
		if filled == "" {
			if fits(a) && fits(b) {
				t.Errorf("%q and %q do not fit", a, b)
			}
			return
		}
		u, err := url.Parse(filled)
		if err != nil {
			t.Fatalf("%q and %q: %v", a, b, err)
		}
		clean := u.JoinPath() // as a proxy may write it
		for _, u := range []*url.URL{u, clean} {
			if u.Scheme != "https" || u.Host != "api.example.com:8443" || u.User != nil || u.Fragment != "" || strings.Count(u.EscapedPath(), "/") != 3 ||
				!strings.HasPrefix(u.EscapedPath(), "/v1/") || !strings.HasSuffix(u.EscapedPath(), "/end") {
				t.Errorf("%q became %s", a, u)
			}
		}
		if q := u.Query(); len(q) != 3 || q.Get("q") != b || q.Get("y") != a || q.Get("x") != "1" {
			t.Errorf("%q and %q became the query %v", a, b, q)
		}
		if strings.HasPrefix(u.EscapedPath(), "/v1/../") || path.Clean(u.EscapedPath()) != u.EscapedPath() {
			t.Errorf("%q became the path %s", a, u.EscapedPath())
		}
	})
}

// FuzzPath: no path panics, and what it reads is in what it was given.
func FuzzPath(f *testing.F) {
	for _, p := range []string{"answer.a", "answer.b.0.c", "answer.b.-1", "answer.b.99999999999999999999", "answer..", "", ".", "account.0", "callback.a", "input.a", "answer.b.00"} {
		f.Add(p)
	}
	from := sources{
		callback: url.Values{"a": {"1"}}, answer: object{"a": "1", "b": []any{map[string]any{"c": json.Number("1")}}, "": map[string]any{"": "1"}},
		account: []any{"1", true, nil, map[string]any{"d": "1"}}, input: map[string]string{"a": "1"},
	}
	f.Fuzz(func(t *testing.T, p string) {
		if text := from.text(Path(p)); text != "" && text != "1" && text != "true" {
			t.Errorf("%q is %q", p, text)
		}
		if Path(p).fault(nil) == "" && (strings.Contains(p, "..") || strings.HasSuffix(p, ".") || !strings.Contains(p, ".")) {
			t.Errorf("%q is no fault", p)
		}
	})
}

// FuzzParams: an entry's own parameters reach the authorization request and never replace ours.
func FuzzParams(f *testing.F) {
	for _, name := range []string{"state", "State", "STATE", "state ", "access_type", "", "client_id", "code_challenge", "redirect_uri\x00", "ſtate"} {
		f.Add(name, "x")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		e := Entry{AuthorizeParams: map[string]string{name: value}}
		wrong := len(e.paramFaults()) > 0
		p := &profile{Entry: e, own: ownClient{id: "ours"}, authorizeURL: "https://x.example/a"}
		q := p.authorizationRequest(Flow{State: "S", Verifier: "V", CallbackURL: "https://us.example"})
		if q.Get("state") != "S" || q.Get("client_id") != "ours" || q.Get("redirect_uri") != "https://us.example" || q.Get("code_challenge") != s256("V") {
			t.Errorf("%q replaced a parameter of ours", name)
		}
		if !wrong && q.Get(name) != value {
			t.Errorf("%q is %q, want %q", name, q.Get(name), value)
		}
	})
}
