package connectors

import (
	"encoding/json"
	"strings"
	"testing"
)

// accounts reads one name, and a detail, as each connector does that is given names.
func accounts(t *testing.T, name string) map[string]Account {
	t.Helper()
	quoted, err := json.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	read := func(body string) response {
		return fuzzResponse(200, []byte(strings.ReplaceAll(body, "NAME", string(quoted))))
	}
	grant, err := camInvoiceGrant(read(`{"access_token":"A","business_info":{"endpoint_id":"KHUID1","company_name_en":NAME}}`), "")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]Account{
		"caminvoice": grant.Account,
		"flexiti":    flexitiMerchant(read(`{"merchant_id":"M1","merchant_name":NAME}`).object(), Account{ID: "M1"}),
		"standard":   standardAccount(read(`{"sub":"U1","name":NAME}`).object()),
	}
}

func TestNamesThatProvidersSend(t *testing.T) {
	for what, c := range map[string]struct{ sent, kept string }{
		"right-to-left override":    {"\u202eShop of Sok", "Shop of Sok"},
		"isolates":                  {"\u2066Shop\u2069 of Sok", "Shop of Sok"},
		"zero-width in Latin":       {"Sh\u200bop", "Shop"},
		"decomposed":                {"Cafe\u0301", "Café"},
		"Khmer with its separators": {"ហាង\u200bលក់\u200bសៀវភៅ", "ហាង\u200bលក់\u200bសៀវភៅ"},
		"Arabic":                    {"متجر سوق", "متجر سوق"},
		"on lines":                  {"Shop\r\nof  Sok", "Shop of Sok"},
		"long":                      {strings.Repeat("ក", 301), strings.Repeat("ក", 300)},
	} {
		for connector, a := range accounts(t, c.sent) {
			if a.Name != c.kept {
				t.Errorf("%s: %s keeps %+q, want %+q", connector, what, a.Name, c.kept)
			}
			for _, d := range a.Details {
				if strings.ContainsAny(d.Value, "\u202e\u2066\u2069") {
					t.Errorf("%s: %s stays in the detail %s: %+q", connector, what, d.Key, d.Value)
				}
			}
		}
	}
}

func TestANameThatCannotBeSeenIsNone(t *testing.T) {
	for what, sent := range map[string]string{
		"zero-width": "\u200b\u2060\u200d", "override": "\u202e", "Hangul filler": "\u3164", "Braille blank": "\u2800", "tags": "\U000E0041", "a mark": "\u0301", "spaces": "\u3000 \u00a0",
	} {
		for connector, a := range accounts(t, sent) {
			if a.Name != "" && a.Name != a.ID {
				t.Errorf("%s: %s is a name: %+q", connector, what, a.Name)
			}
		}
	}
	if a := standardAccount(object{"sub": "U1", "name": "\u200b", "email": "sok@shop.example"}); a.Name != "sok@shop.example" {
		t.Errorf("the next claim is not taken: %+q", a.Name)
	}
}

func TestAccountIDsHaveCharacters(t *testing.T) {
	for given, want := range map[string]string{
		strings.Repeat("ក", 255): strings.Repeat("ក", 255),
		strings.Repeat("x", 256): "",
		"\u200b\u2060":           "",
		"\u202e321":              "321",
		"a\nb":                   "",
		" acct-7\u200b":          "acct-7",
	} {
		if got := accountID(given); got != want {
			t.Errorf("accountID(%.20q) = %.20q, want %.20q", given, got, want)
		}
	}
}

// TestAccountNames holds the account's name to the claims that a provider sends, the best first.
func TestAccountNames(t *testing.T) {
	for claims, want := range map[string]string{
		`{"sub":"U1","given_name":"Dara","family_name":"Sok"}`:                                                      "Dara Sok",
		`{"sub":"U1","given_name":"Dara","family_name":"Sok","preferred_username":"dsok","email":"d@shop.example"}`: "Dara Sok",
		`{"sub":"U1","name":"Sok Dara","given_name":"Dara","family_name":"Sok"}`:                                    "Sok Dara",
		`{"sub":"U1","name":"","given_name":"Dara","family_name":"Sok"}`:                                            "Dara Sok",
		`{"sub":"U1","name":null,"givenName":"Dara","familyName":"Sok"}`:                                            "Dara Sok",
		`{"sub":"U1","given_name":"ដារ៉ា","family_name":"សុខ"}`:                                                     "ដារ៉ា សុខ",
		`{"sub":"U1","given_name":"Dara"}`:                                                                          "Dara",
		`{"sub":"U1","family_name":"Sok","email":"d@shop.example"}`:                                                 "Sok",
		`{"sub":"U1","given_name":" ","family_name":"\u200b","nickname":"dara"}`:                                    "dara",
		`{"id":7,"first_name":"Dara","last_name":"Sok"}`:                                                            "Dara Sok",
		`{"id":7,"display_name":"Sok's","login":"sok"}`:                                                             "Sok's",
		`{"sub":"U1","preferred_username":"dsok","nickname":"d","email":"d@shop.example"}`:                          "dsok",
		`{"sub":"U1","nickname":"d","email":"d@shop.example"}`:                                                      "d",
		`{"sub":"U1","email":"d@shop.example"}`:                                                                     "d@shop.example",
		`{"sub":"U1"}`:                                                                                              "U1",
		`{"sub":"U1","name":{"given":"Dara"}}`:                                                                      "U1",
	} {
		if got := standardAccount(parseObject([]byte(claims))).Name; got != want {
			t.Errorf("%s: %q, want %q", claims, got, want)
		}
	}
}
