package connectors

import (
	"encoding/json"
	"maps"
	"os"
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
		if !strings.Contains(cells.String(), "`"+key+"`") && !slices.Contains(unbuilt, key) {
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
