package handlers

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/PuerkitoBio/goquery"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
	"patchbay/views"
)

// inLanguage presses the button of another language at the foot of a page with a form, with what was typed into it.
func (p *person) inLanguage(from answer, tag string, typed ...string) answer {
	p.t.Helper()
	button := from.document().Find(`.foot button[form][lang=` + tag + `]`)
	form := from.document().Find("form#" + button.AttrOr("form", "none"))
	if button.Length() != 1 || form.Length() != 1 {
		p.t.Fatalf("%q has %d buttons for %s and %d forms for them", from.h1(), button.Length(), tag, form.Length())
	}
	_, fields := formOf(form)
	fields.Set("language", button.AttrOr("value", ""))
	for i := 0; i < len(typed); i += 2 {
		fields.Set(typed[i], typed[i+1])
	}
	return p.follow(p.postForm(p.at(button.AttrOr("formaction", "")), fields))
}

func TestAnotherLanguageKeepsWhatWasTyped(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	guest := s.visitor("")
	id := dbtest.Connection(t, s.db, p.merchant, "caminvoice", "KHUID00001234", "CH168 Co., Ltd").String()
	const secret = "a secret that is typed"
	for path, c := range map[string]struct {
		by    *person
		field string
	}{
		"/connect/flexiti":   {p, "client_id"},
		"/connections/" + id: {p, "nickname"},
		"/account":           {p, "name"},
		"/login":             {guest, "email"},
		"/password":          {guest, "email"},
	} {
		page := c.by.get(path)
		other := map[bool]string{true: "en", false: "km"}[page.has(`html[lang=km]`)]
		got := c.by.inLanguage(page, other, c.field, "typed@ch168.example", "client_secret", secret, "merchant_password", secret, "password", secret)
		if got.status != http.StatusOK || !got.has(`html[lang=`+other+`]`) || got.attribute(`#typed [name=`+c.field+`]`, "value") != "typed@ch168.example" {
			t.Errorf("%s: %d %q in another language, with %q", path, got.status, got.h1(), got.attribute(`#typed [name=`+c.field+`]`, "value"))
		}
		if strings.Contains(got.body, secret) {
			t.Errorf("%s shows a secret", path)
		}
		if again := c.by.get(path); strings.Contains(again.body, "typed@ch168.example") {
			t.Errorf("%s still has what was typed when it is opened anew", path)
		}
	}
	for _, language := range []string{"", "km", "xx /login", "km https://evil.example/", "km //evil.example/", `km /\evil.example/`} {
		if got := guest.post("/language", "language", language); got.status != http.StatusBadRequest {
			t.Errorf("%q: %d to %q", language, got.status, got.location)
		}
	}
	if got := guest.post("/language", "language", "km /login", "email", strings.Repeat("x", 5000)); got.location != "/login" {
		t.Errorf("more than a cookie holds: %d to %q", got.status, got.location)
	}
	secrets := s.server.secretFields()
	for _, name := range []string{"password", "client_secret", "merchant_password"} {
		if !secrets[name] {
			t.Errorf("%s is no secret", name)
		}
	}
	if len(views.Languages()) != 3 {
		t.Error("there is another language to try")
	}
}

// typable are the fields of a form that a person types into or chooses from.
const typable = `input[name]:not([type=hidden]):not([type=password]):not([hidden]), select[name], textarea[name]`

func TestAnotherLanguageKeepsWhatStandsInEveryForm(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	own, boss := s.merchant("CH168 Shop"), s.staff(audit.RoleAdmin)
	fill := s.things(own, boss)
	pages := map[*person]map[string]bool{s.visitor(""): {}, own: {"/connect/flexiti": true, "/connect/elecq": true, "/connect/bookings": true}, boss: {}}
	for _, one := range s.server.routes() {
		if pattern, ok := strings.CutPrefix(one.pattern, "GET "); ok {
			for p := range pages {
				pages[p][fill.Replace(pattern)] = true
			}
		}
	}
	secrets, forms := s.server.secretFields(), map[string]bool{}
	for p, paths := range pages {
		for _, path := range slices.Sorted(maps.Keys(paths)) {
			before := p.get(path)
			button := before.document().Find(`.foot button[form][lang=km]`)
			sent, typed := url.Values{}, map[string][]string{} // by form and field
			before.document().Find("main form").Each(func(_ int, form *goquery.Selection) {
				fields := form.Find(typable)
				if before.status != http.StatusOK || fields.Length() == 0 {
					return
				}
				id := form.AttrOr("id", "")
				if !strings.HasPrefix(id, "typed") && !strings.HasPrefix(id, "searched") || button.Length() != 1 {
					t.Errorf("%s: a change of language loses what is typed into %q of %s", path, id, form.AttrOr("action", ""))
					return
				}
				forms[form.AttrOr("action", "")+" "+form.Find("[name=do]").AttrOr("value", "")] = true
				fields.Each(func(_ int, field *goquery.Selection) {
					name := field.AttrOr("name", "")
					key := name
					if id != button.AttrOr("form", "") {
						key = id + " " + name
					}
					value := typedInto(field)
					if value != "" {
						sent.Add(key, value)
					} else if !sent.Has(key) {
						typed[id+" "+name] = nil
					}
					if value != "" && !secrets[name] {
						typed[id+" "+name] = append(typed[id+" "+name], value)
					}
				})
			})
			if len(typed) == 0 {
				continue
			}
			sent.Set("language", button.AttrOr("value", ""))
			after := p.follow(p.postForm(p.at("/language"), sent))
			if after.status != http.StatusOK || !after.has("html[lang=km]") {
				t.Errorf("%s: %d %q in another language", path, after.status, after.h1())
			}
			after.document().Find("main form").Each(func(_ int, form *goquery.Selection) {
				_, stands := formOf(form)
				form.Find(typable).Each(func(_ int, field *goquery.Selection) {
					key, name := form.AttrOr("id", "")+" "+field.AttrOr("name", ""), field.AttrOr("name", "")
					switch want := typed[key]; {
					case secrets[name] && field.AttrOr("value", "") != "":
						t.Errorf("%s: the secret %s is shown", path, key)
					case !secrets[name] && !slices.Equal(stands[name], want):
						t.Errorf("%s: %s holds %q, and %q was typed", path, key, stands[name], want)
					}
				})
			})
			p.setCookie("lang", "en")
		}
	}
	if len(forms) < 16 {
		t.Errorf("only %d forms were found: %v", len(forms), slices.Sorted(maps.Keys(forms)))
	}
}

// typedInto returns what a person types into a field or chooses in it, other than what stands there. It is "" for a box that is not ticked.
func typedInto(field *goquery.Selection) string {
	switch kind := field.AttrOr("type", ""); {
	case goquery.NodeName(field) == "select":
		last := field.Find("option").Last()
		return last.AttrOr("value", last.Text())
	case kind == "checkbox" && field.Is("[checked]"):
		return ""
	case kind == "checkbox":
		return field.AttrOr("value", "on")
	case kind == "radio":
		if field.ParentsFiltered("fieldset").First().Find("input[type=radio]").Last().AttrOr("value", "") == field.AttrOr("value", "") {
			return field.AttrOr("value", "")
		}
		return ""
	case kind == "email":
		return "typed@platform.example"
	case kind == "date":
		return "2026-05-03"
	case kind == "datetime-local":
		return "2026-05-03T12:00"
	case kind == "number":
		return "7"
	}
	return "typed here"
}

func TestReconnectingFillsInWhatIsKnownAndNoSecret(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	p := s.merchant("CH168 Shop")
	p.follow(p.post("/connect/flexiti", "client_id", "flexitidemo", "client_secret", "77xde15a-9d33-4c15-930a-3se4b3as33e9", "scope", "merchant"))
	page := p.get("/connect/flexiti?connection=" + p.connections()[0].ID.String())
	if got := page.attribute("#client_id", "value"); got == "" || !strings.Contains(p.connections()[0].Account.ID, got) {
		t.Errorf("the Client ID is %q", got)
	}
	if page.has("#client_secret[value]") || page.attribute("button[data-busy]", "data-busy") == "" {
		t.Error("the secret is filled in, or the button has no words for while it waits")
	}
	if page.attribute(`button[data-show=client_secret][hidden]`, "aria-pressed") != "false" {
		t.Error("the pasted secret cannot be shown")
	}
}
