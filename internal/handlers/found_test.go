package handlers

import (
	"net/url"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/sandbox"
)

// TestARowSaysWhyItWasFound: what was typed is marked, in a field of its own where the row does not show it anyway.
func TestARowSaysWhyItWasFound(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, support := s.merchant("Riverside Bakery"), s.staff(audit.RoleSupport)
	p.connect("caminvoice", "KHUID00001234")
	c := p.connections()[0]
	tin, khmer := c.Account.Detail("tin"), []rune(c.Account.Detail("company_name_kh"))
	person := words("filter.person")
	for name, one := range map[string]struct{ typed, field, marked string }{
		"a name that the row shows":           {"riverside", "", "Riverside"},
		"an account's id":                     {"khuid00001234", "", "KHUID00001234"},
		"a Khmer name":                        {string(khmer[:6]), "", string(khmer[:6])}, // and what is written below its last letter,
		"half a tax number":                   {tin[3:], "Tax number", tin[3:]},
		"an e-mail address of a user":         {p.email, person, p.email},
		"a word of the row and one not in it": {"bakery " + tin, "Tax number", tin},
		"an id":                               {c.ID.String(), words("admin_connection.id"), c.ID.String()},
		"a reference":                         {strings.ToLower(c.Reference()), words("layout.reference"), c.Reference()},
		"a word that is mistyped":             {"Riverisde", "", ""},
	} {
		page := support.get("/admin/connections?q=" + url.QueryEscape(one.typed))
		row := page.document().Find("tbody tr").FilterFunction(func(_ int, tr *goquery.Selection) bool {
			return tr.Find(`a[href^="/connections/`+c.ID.String()+`"]`).Length() > 0
		})
		if row.Length() != 1 {
			t.Errorf("%s: found %d times", name, row.Length())
			continue
		}
		why := row.Find(".why")
		if one.field == "" && why.Length() > 0 || one.field != "" && (why.Length() != 1 || !strings.Contains(why.Text(), one.field)) {
			t.Errorf("%s: why is %q, want %q", name, why.Text(), one.field)
		}
		if got := row.Find("mark").Text(); !strings.Contains(got, one.marked) || one.marked == "" && got != "" {
			t.Errorf("%s: %q is marked, want %q", name, got, one.marked)
		}
	}
	if got := support.get("/admin/merchants?q=riverside").text("tbody th mark"); got != "Riverside" {
		t.Errorf("of a merchant is marked %q", got)
	}
	if got := support.get("/admin/users?q=" + url.QueryEscape(p.email)).text("tbody th mark"); got != p.email {
		t.Errorf("of a user is marked %q", got)
	}
	for _, path := range []string{"/admin", "/admin/events", "/connections/" + c.ID.String(), "/account"} {
		if form := support.get(path).document().Find(`header form[method="get"][action="/admin/connections"][role="search"]`); form.Find(`input[type="search"][name="q"]`).Length() != 1 {
			t.Errorf("%s has no search in its head", path)
		}
	}
	if p.get("/").has("header form[role=search]") {
		t.Error("a merchant is offered staff's search")
	}
	if db.Reference(c.Reference()) != c.Reference() {
		t.Error("a reference is not read as it is written")
	}
}
