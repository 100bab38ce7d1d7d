package connectors

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAnAccountIsBounded(t *testing.T) {
	many := make([]Detail, 5000)
	for i := range many {
		many[i] = Detail{fmt.Sprint("key ", i), "value"}
	}
	long := make([]Detail, 200)
	for i := range long {
		long[i] = Detail{fmt.Sprint("key ", i), strings.Repeat("ក", 1<<20)}
	}
	for what, c := range map[string]struct {
		details []Detail
		kept    int
	}{
		"none":                    {nil, 0},
		"few":                     {many[:7], 7},
		"too many":                {many, 100},
		"one that is too long":    {long[:1], 1},
		"many that are too long":  {long, 7},
		"a key that is too long":  {[]Detail{{strings.Repeat("k", 1<<20), "v"}, {"id", "1"}}, 1},
		"short ones after a long": {append(append([]Detail{}, long[:20]...), Detail{"id", "1"}), 8},
	} {
		got := Account{ID: "a", Details: c.details}.Bounded()
		text, err := json.Marshal(got.Details)
		if len(got.Details) != c.kept || err != nil || len(text) > 40<<10 {
			t.Errorf("%s: %d details of %d bytes, want %d", what, len(got.Details), len(text), c.kept)
		}
		for _, d := range got.Details {
			if len(d.Value) > 4<<10 || !utf8.ValidString(d.Value) {
				t.Errorf("%s: a value of %d bytes", what, len(d.Value))
			}
		}
	}
}

func TestValuesBesideATokenAreBounded(t *testing.T) {
	few := Values{"realmId": "4620816365", "livemode": true, "n": json.Number("12345678901234567890")}
	many, large, deep := Values{}, Values{}, object{}
	for i := range 5000 {
		many[fmt.Sprintf("%04d", i)] = "v"
		large[fmt.Sprintf("%04d", i)] = strings.Repeat("ក", maxValue)
	}
	for i := range 4096 { // realm_id with hyphens between, in so many spellings
		name := ""
		for bit, letter := range "realmidrealm"[:7] {
			if name += string(letter); i>>bit&1 == 1 {
				name += strings.Repeat("-", 1+i/128)
			}
		}
		deep[name] = fmt.Sprint(i)
	}
	for what, c := range map[string]struct {
		values Values
		kept   int
	}{
		"none":                    {nil, 0},
		"few":                     {few, 3},
		"too many":                {many, maxValues},
		"too long together":       {large, 10},
		"a name that is too long": {Values{strings.Repeat("k", 1<<20): "v", "id": "1"}, 1},
		"many spellings of one":   {besideToken(nil, deep, "").values, 1},
	} {
		got := Account{ID: "a", Values: c.values}.Bounded().Values
		raw, err := json.Marshal(got)
		if len(got) != c.kept || err != nil || len(raw) > 20<<10 {
			t.Errorf("%s: %d values of %d bytes, want %d: %v", what, len(got), len(raw), c.kept, err)
		}
	}
	if got := (Account{Values: few}).Bounded().Values; fmt.Sprint(got) != fmt.Sprint(few) {
		t.Errorf("changed: %v", got)
	}
}

func TestMetadataOfAnHTTPSIssuerNamesHTTPSOnly(t *testing.T) {
	for _, c := range []struct {
		issuer, environment, address string
		good                         bool
	}{
		{"https://id.example", "production", "https://id.example/token", true},
		{"https://id.example", "production", "http://127.0.0.1:9302/token", false},
		{"https://id.example", "production", "http://localhost/token", false},
		{"https://id.example", "production", "http://x.localhost/token", false},
		{"https://id.example", "production", "http://[::1]/token", false},
		{"https://id.example", "sandbox", "http://169.254.169.254/latest", false},
		{"https://id.example", "sandbox", "http://other.example/token", false},
		{"HTTPS://id.example", "sandbox", "HTTP://other.example/token", false},
		{"http://127.0.0.1:9000", "production", "http://127.0.0.1:9000/token", true},
		{"http://id.internal", "sandbox", "http://id.internal/token", true},
	} {
		for _, name := range []string{"authorization_endpoint", "token_endpoint", "revocation_endpoint", "userinfo_endpoint", "jwks_uri", "pushed_authorization_request_endpoint"} {
			_, err := parseMetadata(object{"issuer": c.issuer, name: c.address}, c.issuer, c.environment)
			if (err == nil) != c.good {
				t.Errorf("%s of %s in %s: %s is %s: %v", name, c.issuer, c.environment, c.address, map[bool]string{true: "good", false: "refused"}[c.good], err)
			}
		}
	}
}
