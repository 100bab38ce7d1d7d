package handlers

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"golang.org/x/net/html"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
)

// TestNamesAreMeasuredInCharacters: what a field with maxlength=200 takes is never too long, in any script (goadesign/goa#739).
func TestNamesAreMeasuredInCharacters(t *testing.T) {
	h := newTestServer(t)
	sok, boss := h.merchant("CH168 Shop"), h.staff(audit.RoleAdmin)
	for what, c := range map[string]struct {
		name string
		fits bool
	}{
		"115 Khmer letters":      {strings.Repeat("ក", 115), true},
		"200 Khmer letters":      {strings.Repeat("ខ", 200), true},
		"201 Khmer letters":      {strings.Repeat("គ", 201), false},
		"200 Latin letters":      {strings.Repeat("x", 200), true},
		"201 Latin letters":      {strings.Repeat("y", 201), false},
		"200 Arabic letters":     {strings.Repeat("ش", 200), true},
		"200 decomposed letters": {strings.Repeat("e\u0301", 200), true},
		"200 Devanagari letters": {strings.Repeat("\u0958", 200), true},
		"100 emoji":              {strings.Repeat("🙂", 100), true},
	} {
		for place, got := range map[string]answer{
			"a merchant":    boss.post("/admin/merchants", "name", c.name),
			"an id":         boss.post("/admin/merchants", "name", "Shop", "external_id", c.name),
			"a key":         boss.post("/admin/keys", "name", c.name, "scope", db.ScopeConnections),
			"a person":      boss.post("/admin/users", "email", "p"+strings.ReplaceAll(what, " ", "")+"@shop.example", "name", c.name, "role", "support"),
			"the person":    sok.post("/account", "do", "save", "name", c.name),
			"by the API":    merchantByAPI(t, h, map[string]string{"external_id": what, "name": c.name}),
			"id by the API": merchantByAPI(t, h, map[string]string{"external_id": c.name, "name": "Shop"}),
		} {
			if refused := got.status >= 400; refused == c.fits {
				t.Errorf("%s with %s: %d", place, what, got.status)
			}
		}
	}
	if got := merchantByAPI(t, h, map[string]string{"external_id": "x", "name": strings.Repeat("ក", 201)}); !strings.Contains(got.body, "200 characters") {
		t.Errorf("the API says %s", got.body)
	}
}

// merchantByAPI adds a merchant with a key of all merchants.
func merchantByAPI(t *testing.T, h *testServer, merchant map[string]string) answer {
	t.Helper()
	_, secret, err := h.db.AddAPIKey(t.Context(), audit.System, db.APIKey{Name: "platform", Scopes: db.Scopes()})
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(merchant)
	if err != nil {
		t.Fatal(err)
	}
	r := request(t, http.MethodPost, h.url+"/api/v1/merchants", strings.NewReader(string(body)))
	r.Header.Set("Authorization", "Bearer "+string(secret))
	r.Header.Set("Content-Type", "application/json")
	return h.visitor("").do(r)
}

// TestANameThatCannotBeSeenIsMissing, in each language (XiovV/calich#252).
func TestANameThatCannotBeSeenIsMissing(t *testing.T) {
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	for what, name := range map[string]string{
		"zero-width space": "\u200b", "override": "\u202e", "Hangul filler": "\u3164", "Braille blank": "\u2800", "the report's": "\u200b\u2060\u200d", "mark": "\u0301", "no-break space": "\u00a0",
	} {
		for _, lang := range []string{"en", "km", "fr"} {
			for _, path := range []string{"/admin/merchants", "/admin/keys"} {
				got := boss.post(path+"?lang="+lang, "name", name, "scope", db.ScopeConnections)
				if got.status != http.StatusUnprocessableEntity || !got.has("#name-error") || !got.has(`#errors a[href="#name"]`) {
					t.Errorf("%s at %s in %s: %d", what, path, lang, got.status)
				}
			}
		}
		if got := merchantByAPI(t, h, map[string]string{"external_id": "x", "name": name}); got.status != http.StatusBadRequest {
			t.Errorf("%s by the API: %d", what, got.status)
		}
		if got := merchantByAPI(t, h, map[string]string{"external_id": name, "name": "Shop"}); got.status != http.StatusBadRequest {
			t.Errorf("%s as an id by the API: %d", what, got.status)
		}
	}
}

// TestForeignNamesAreIsolated opens every page that links lead to, where every name is Arabic or Hebrew, and looks that none of
// them turns round what is beside it. Names of before they were cleaned are among them.
func TestForeignNamesAreIsolated(t *testing.T) {
	t.Parallel()
	h := newTestServer(t, withSandbox(sandbox.Options{}))
	for i := range h.server.Providers {
		h.server.Providers[i].Title = "مزود " + h.server.Providers[i].Title
	}
	sok := h.merchant("متجر سوق")
	boss := h.staff(audit.RoleAdmin)
	for i, state := range [][]dbtest.State{{dbtest.Working()}, {dbtest.Refused(time.Now())}, {dbtest.Retrying(time.Now())}, {dbtest.Disconnected(time.Now())}, {dbtest.Lapsing(time.Now().Add(time.Hour))}} {
		dbtest.Connection(t, h.db, sok.merchant, "caminvoice", "חשבון"+string(rune('a'+i)), "חנות \u202e"+string(rune('a'+i)), state...)
	}
	if _, err := h.db.Pool.Exec(t.Context(), `UPDATE connections SET details = '[{"key":"company_name_kh","value":"شركة"},{"key":"עיר","value":"ירושלים"},{"key":"list","value":"[\"شارع\"]"},{"key":"o","value":"{\"a\":\"شارع\"}"}]'`); err != nil {
		t.Fatal(err)
	}
	for _, form := range [][]string{
		{"/account", "do", "save", "name", "مدير"},
		{"/admin/users", "email", "דוד@platform.example", "name", "דוד", "role", "support"},
		{"/admin/merchants", "name", "מכולת", "external_id", "מזהה"},
		{"/admin/keys", "name", "مفتاح", "scope", db.ScopeConnections, "merchant", "متجر سوق"},
		{"/admin/providers/elecq", "do", "declare", "reason", "صيانة"},
	} {
		if got := boss.post(form[0], form[1:]...); got.status >= 400 {
			t.Fatalf("%s: %d %s", form[0], got.status, got.h1())
		}
	}
	sok.post("/account", "do", "save", "name", "سوق")
	dbtest.Event(t, h.db, status.RefreshSaved, time.Now())
	seen, shown := map[string]bool{}, 0
	for _, p := range []*person{sok, boss} {
		for paths := []string{"/", "/account", "/admin/connections?q=שלום", "/admin/connections?q=סוכק", "/connect/caminvoice", "/connect/flexiti"}; len(paths) > 0; paths = paths[1:] {
			path, _, _ := strings.Cut(paths[0], "#")
			if seen[p.email+path] || len(seen) > 150 || strings.Contains(path, "lang=") || strings.Contains(path, ".csv") || strings.Contains(path, ".xlsx") {
				continue
			}
			seen[p.email+path] = true
			got := p.get(path)
			if got.status == http.StatusSeeOther {
				paths = append(paths, got.location)
				continue
			}
			doc := got.document()
			for _, node := range doc.Nodes {
				shown += notIsolated(node, func(text string) {
					if page, _, _ := strings.Cut(path, "?"); !seen[page+text] {
						seen[page+text] = true
						t.Errorf("%s: %q is not isolated", path, text)
					}
				})
			}
			for _, a := range doc.Find(`a[href^="/"]`).EachIter() {
				paths = append(paths, a.AttrOr("href", ""))
			}
		}
	}
	if len(seen) < 30 || shown < 200 {
		t.Errorf("only %d pages with %d names were seen", len(seen), shown)
	}
}

// notIsolated says which texts under a node have letters of which none isolates the direction, and counts those that are.
func notIsolated(n *html.Node, say func(string)) (isolated int) {
	turns := func(s string) bool {
		return strings.ContainsFunc(s, func(r rune) bool { return unicode.In(r, unicode.Arabic, unicode.Hebrew) })
	}
	outside := func(s string) string { // what is not between U+2068 and U+2069
		for {
			before, rest, found := strings.Cut(s, "\u2068")
			_, after, closed := strings.Cut(rest, "\u2069")
			if !found || !closed {
				return s
			}
			s = before + after
		}
	}
	if n.Type == html.ElementNode {
		if n.Data == "bdi" || n.Data == "script" || n.Data == "svg" { // in a mark there is one letter
			return strings.Count(n.Data, "bdi")
		}
		for _, a := range n.Attr {
			switch {
			case a.Key == "dir" && a.Val == "auto":
				return 1
			case strings.HasPrefix(a.Key, "aria-") && turns(outside(a.Val)), a.Key == "title" && turns(outside(a.Val)):
				say(a.Key + "=" + a.Val)
			}
		}
	}
	if n.Type == html.TextNode && (turns(outside(n.Data)) || strings.ContainsRune(outside(n.Data), '\u202e')) {
		say(n.Data)
	}
	for c := n.FirstChild; c != nil; c = c.NextSibling {
		isolated += notIsolated(c, say)
	}
	return isolated
}

// TestQueriesFindNamesHoweverTheyAreWritten searches, and names the merchant of a key.
func TestQueriesFindNamesHoweverTheyAreWritten(t *testing.T) {
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	boss.post("/admin/merchants", "name", "Montréal Supply", "external_id", "café-1")
	for _, typed := range []string{"montre\u0301al", "MONTREAL", "\u202esupply", "Ｓｕｐｐｌｙ", "cafe\u0301-1", "sup\u200bply"} {
		if got := boss.get("/admin/merchants?q=" + url.QueryEscape(typed)); !strings.Contains(got.text("table"), "Montréal Supply") {
			t.Errorf("%+q does not find it", typed)
		}
	}
	for i, typed := range []string{"Montre\u0301al Supply", "montréal  supply", "Ｍontréal\u200b Supply", "cafe\u0301-1"} {
		if got := boss.post("/admin/keys", "name", strconv.Itoa(i), "scope", db.ScopeConnections, "merchant", typed); got.status != http.StatusSeeOther {
			t.Errorf("a key for %+q: %d", typed, got.status)
		}
	}
}
