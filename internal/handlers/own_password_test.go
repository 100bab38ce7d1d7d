package handlers

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"patchbay/internal/sandbox"
)

// TestOwnPasswordIsNoCredential has a password manager fill in a partner's form with the sign-in (AI-Shipping-Labs/website#339,
// oxTrust#2177).
func TestOwnPasswordIsNoCredential(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{ELECQ: sandbox.ELECQOptions{Authorize: "credentials"}}))
	p := s.merchant("CH168 Shop")
	for name, c := range map[string]struct {
		provider string
		fields   []string
		wrong    string
	}{
		"the whole sign-in":        {"flexiti", []string{"client_id", p.email, "client_secret", password}, "client_secret"},
		"the secret":               {"bookings", []string{"client_id", "x", "client_secret", password}, "client_secret"},
		"by ELECQ":                 {"elecq", []string{"client_id", "x", "client_secret", password}, "client_secret"},
		"an optional field":        {"flexiti", []string{"client_id", "x", "client_secret", "y", "merchant_username", "z", "merchant_password", password}, "merchant_password"},
		"as the id":                {"bookings", []string{"client_id", password, "client_secret", "x"}, "client_id"},
		"as a name":                {"flexiti", []string{"client_id", "x", "client_secret", "y", "merchant_username", password}, "merchant_username"},
		"with a blank before":      {"bookings", []string{"client_id", "x", "client_secret", " " + password}, "client_secret"},
		"with a line's end behind": {"bookings", []string{"client_id", "x", "client_secret", password + "\r\n"}, "client_secret"},
		"in both fields":           {"bookings", []string{"client_id", password, "client_secret", password}, "client_secret"},
	} {
		got := p.post("/connect/"+c.provider, c.fields...)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, `id="`+c.wrong+`-error"`) || !strings.Contains(got.body, "your own password here") {
			t.Errorf("%s: %d", name, got.status)
		}
		if strings.Contains(got.body, password) {
			t.Errorf("%s: the password is on the page", name)
		}
	}
	var begun int
	if err := s.db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM flows`).Scan(&begun); err != nil || begun != 0 {
		t.Errorf("%d flows began, %v", begun, err)
	}
	inputs := regexp.MustCompile(`<input[^>]*>`)
	for _, provider := range []string{"flexiti", "bookings", "elecq"} {
		for _, input := range inputs.FindAllString(p.get("/connect/"+provider).body, -1) {
			switch {
			case strings.Contains(input, `type="password"`) && !strings.Contains(input, `autocomplete="new-password"`),
				strings.Contains(input, `type="text"`) && !strings.Contains(input, `autocomplete="off"`):
				t.Errorf("%s: a password manager fills in %s", provider, input)
			}
		}
	}
}
