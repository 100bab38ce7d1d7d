package sso

import (
	"errors"
	"testing"
)

func TestAnHTTPSIssuerNamesNoPlainAddress(t *testing.T) {
	for what, change := range map[string]func(*metadata){
		"the authorization endpoint": func(m *metadata) { m.AuthorizeURL = "http://id.example/authorize" },
		"the token endpoint":         func(m *metadata) { m.TokenURL = "http://id.example/token" },
		"the keys":                   func(m *metadata) { m.KeysURL = "http://id.example/keys" },
		"userinfo":                   func(m *metadata) { m.UserinfoURL = "http://id.example/userinfo" },
		"a host in capitals":         func(m *metadata) { m.TokenURL = "HTTP://ID.EXAMPLE/token" },
	} {
		m := metadata{Issuer: "https://id.example", AuthorizeURL: "https://id.example/authorize", TokenURL: "https://tokens.example/", KeysURL: "https://id.example/keys"}
		if err := m.fault("https://id.example/"); err != nil {
			t.Fatal(err)
		}
		change(&m)
		if err := m.fault("https://id.example"); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
