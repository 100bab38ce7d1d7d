package handlers

import (
	"net/http"
	"strings"
	"testing"

	"patchbay/internal/sandbox"
)

// TestAReceiptTellsWhy has a provider that ends access, one that is away, one that refuses, and access that another merchant uses.
func TestAReceiptTellsWhy(t *testing.T) {
	t.Parallel()
	const provider = "CamInvoice"
	for name, c := range map[string]struct {
		fault  sandbox.Fault
		shared bool
		says   []string
		not    []string
	}{
		"ended":          {says: []string{"receipt.revoked-done"}, not: []string{"receipt.finish"}},
		"away":           {fault: sandbox.Fault{Kind: sandbox.Error500, Endpoint: "revoke"}, says: []string{"receipt.why-away", "receipt.revoked-later"}},
		"used elsewhere": {shared: true, says: []string{"receipt.revoked-kept", "receipt.finish", "receipt.finish-why-kept"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newTestServer(t, withSandbox(sandbox.Options{}))
			p := s.merchant("CH168 Shop")
			p.connect("caminvoice", "KHUID00001234")
			if c.shared {
				s.merchant("CH168 Warehouse").connect("caminvoice", "KHUID00001234")
			}
			if c.fault.Kind != "" {
				if err := s.sandbox.SetFault("caminvoice", c.fault); err != nil {
					t.Fatal(err)
				}
			}
			connection := p.connections()[0]
			path := "/connections/" + connection.ID.String()
			if got := p.post(path + "/disconnect"); got.status != http.StatusSeeOther {
				t.Fatalf("disconnecting: %d", got.status)
			}
			page := p.get(path)
			for _, key := range c.says {
				if !page.says(key, "Provider", provider) {
					t.Errorf("it does not say %q", words(key, "Provider", provider))
				}
			}
			for _, key := range c.not {
				if page.says(key, "Provider", provider) {
					t.Errorf("it says %q", words(key, "Provider", provider))
				}
			}
			receipt := page.text("section[aria-labelledby=receipt]")
			for what, text := range map[string]string{
				"the business": "CH168 Shop", "the account's name": connection.Account.Name, "its name in Khmer": connection.Account.Detail("company_name_kh"), "a year": s.db.Now().Format("2006"),
			} {
				if text == "" || !strings.Contains(receipt, text) {
					t.Errorf("the receipt lacks %s, %q", what, text)
				}
			}
			if strings.Contains(receipt, "today") {
				t.Error("a receipt that is kept says today")
			}
		})
	}
}
