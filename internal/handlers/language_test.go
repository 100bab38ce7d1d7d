package handlers

import (
	"net/http"
	"strings"
	"testing"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/sandbox"
	"patchbay/views"
)

// inLanguage presses the button of another language at the foot of a page with a form, with what was typed into it.
func (p *person) inLanguage(from answer, tag string, typed ...string) answer {
	p.t.Helper()
	button := from.document().Find(`.foot button[form=typed][lang=` + tag + `]`)
	form := from.document().Find("form#typed")
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
