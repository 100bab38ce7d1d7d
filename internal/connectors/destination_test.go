package connectors

import "testing"

func TestHostsAsBrowsersShowThem(t *testing.T) {
	for address, want := range map[string]string{
		"https://sb-merchant.e-invoice.gov.kh/connect": "sb-merchant.e-invoice.gov.kh",
		"https://ID.Example.com:443/authorize":         "id.example.com",
		"http://127.0.0.1:8081/authorize":              "127.0.0.1:8081",
		"https://[::1]:8443/":                          "[::1]:8443",
		"https://раураl.com/authorize":                 "xn--l-7sba6dbr.com", // Cyrillic but for the last letter
		"https://user@bank.example@evil.example/":      "evil.example",
		"":               "",
		"not an address": "",
	} {
		if got := shownHost(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

// TestTheHostIsKnownBeforeLeaving holds it to where the browser is sent.
func TestTheHostIsKnownBeforeLeaving(t *testing.T) {
	entry := Entry{Name: "acme", AuthorizeURL: "https://{shop}.acme.example/authorize", TokenURL: "https://{shop}.acme.example/token", Inputs: Inputs{{Name: "shop", Kind: "label", Suffix: ".acme.example"}}}
	s := entry.standard("", nil, NewClient(nil, nil))
	if got := s.Destination(t.Context(), nil); got != "" {
		t.Errorf("before the shop is known: %q", got)
	}
	if got := s.Destination(t.Context(), map[string]string{"shop": "ch168"}); got != "ch168.acme.example" {
		t.Errorf("with the shop: %q", got)
	}
	if got := s.Destination(t.Context(), map[string]string{"shop": "evil.example/"}); got != "" {
		t.Errorf("with a shop that is none: %q", got)
	}
}
