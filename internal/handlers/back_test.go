package handlers

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
)

func TestOnlyOurOwnListsLeadBack(t *testing.T) {
	id := pg.NewID().String()
	for at, want := range map[string]string{
		"/admin/connections?q=ch168&at=abc&health=fine": "/admin/connections?at=abc&health=fine&q=ch168",
		"/admin/connections?lang=km&q=x":                "/admin/connections?q=x",
		"https://evil.example/admin/users":              "/admin/users", // only path and query are used
		"//evil.example/admin":                          "/admin",
		"/admin/merchants/" + id:                        "/admin/merchants/" + id,
		"/admin/merchants/" + id + "/erase":             "",
		"/admin/merchants/..%2f..%2flogout":             "",
		"/admin/../login":                               "",
		"//admin":                                       "",
		"/admin/keys":                                   "",
		"/connections/" + id:                            "",
		"javascript:alert(1)":                           "",
		"":                                              "",
	} {
		parsed, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		if got := listAddress(parsed); got != want {
			t.Errorf("%q leads back to %q, want %q", at, got, want)
		}
	}
}

func TestBackToTheListAsItWas(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p, support := s.merchant("Riverside Bakery"), s.staff(audit.RoleSupport)
	p.connect("caminvoice", "KHUID00001234")
	c := p.connections()[0]
	page := "/connections/" + c.ID.String()
	back := func(path, referer string) string {
		t.Helper()
		r := request(t, http.MethodGet, s.url+path, nil)
		if referer != "" {
			r.Header.Set("Referer", referer)
		}
		return support.do(r).attribute(".back a", "href")
	}
	list := "/admin/connections?health=fine&q=riverside"
	for _, one := range []struct{ name, page, referer, want string }{
		{"nothing is known", page, "", "/admin/connections"},
		{"from another site", page, "https://evil.example" + list, "/admin/connections"},
		{"from a list", page, s.url + list, list},
		{"after a form of the page", page, s.url + page, list},
		{"another page after it", "/admin/merchants/" + p.merchant.String(), s.url + page, "/admin/merchants"},
		{"from a list of merchants", "/admin/merchants/" + p.merchant.String(), s.url + "/admin/merchants?q=river", "/admin/merchants?q=river"},
		{"from a merchant", page, s.url + "/admin/merchants/" + p.merchant.String(), "/admin/merchants/" + p.merchant.String()},
	} {
		if got := back(one.page, one.referer); got != one.want {
			t.Errorf("%s: %q, want %q", one.name, got, one.want)
		}
	}
	if got := p.get(page); got.has(`.back a[href^="/admin"]`) || strings.Contains(got.body, "/admin") {
		t.Error("a merchant is led to the back office")
	}
}
