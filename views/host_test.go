package views

import "testing"

func TestAHostsOwnerStandsOut(t *testing.T) {
	for host, want := range map[string][3]string{
		"sb-merchant.e-invoice.gov.kh": {"sb-merchant.", "e-invoice.gov.kh", ""},
		"id.example.com:8443":          {"id.", "example.com", ":8443"},
		"example.com":                  {"", "example.com", ""},
		"127.0.0.1:8081":               {"", "127.0.0.1", ":8081"},
		"[::1]:8443":                   {"", "[::1]:8443", ""},
		"localhost":                    {"", "localhost", ""},
		"bank.example.evil.com":        {"bank.example.", "evil.com", ""},
	} {
		if before, own, after := hostParts(host); [3]string{before, own, after} != want {
			t.Errorf("%s: %q %q %q", host, before, own, after)
		}
	}
}
