package handlers

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
)

// notRedirected are the routes whose answer to a form that works is no redirect, or that this server does not have, with the reason.
var notRedirected = map[string]string{
	"POST /passkey-challenges": "answers a script, and is no form",
	"POST /login/passkey":      "no passkey belongs to an IP address; TestAPasskeyIsASecondFactorAProofAndASignIn holds it",
}

var secretKey = regexp.MustCompile(`pb_[A-Za-z0-9_-]{43}`)

// TestAFormThatWorksLeadsOn sends every form as it works: an answer with a page of its own would have Back lead to the browser's error,
// and Reload send the form again. What is refused (4xx) is answered with its form.
func TestAFormThatWorksLeadsOn(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	own, boss := h.merchant("CH168 Shop"), h.staff(audit.RoleAdmin)
	fill := h.things(own, boss)
	link, guest := h.visitor(""), h.visitor("")
	setUp, codes := h.staff(audit.RoleSupport), "POST /account/second-factor"
	secret := strings.ReplaceAll(secretShown.FindString(setUp.get("/account/second-factor").body), " ", "")
	invited, err := h.accounts.AddUser(t.Context(), audit.System, account.NewUser{Email: "dara@platform.example", Role: audit.RoleSupport})
	if err != nil {
		t.Fatal(err)
	}
	invitation, _, err := h.accounts.AddLink(t.Context(), audit.System, account.LinkInvitation, invited.ID, pg.ID{})
	if err != nil {
		t.Fatal(err)
	}
	sent := map[string]bool{}
	for _, form := range []struct {
		pattern string
		by      *person
		fields  []string
	}{
		{codes, setUp, []string{"do", "on", "code", setUp.code(secret)}},
		{codes, setUp, []string{"do", "recovery"}},
		{"POST /login/second-factor", setUp, nil},
		{"POST /connect/{provider}", own, nil},
		{"POST /connect/{provider}/callback", own, []string{"code", "x"}},
		{"POST /flows/{reference}/choice", own, []string{"choice", "cancel"}},
		{"POST /links/{secret}", link, []string{"provider", "caminvoice"}},
		{"POST /connections/{id}/refresh", own, nil},
		{"POST /connections/{id}/refresh", boss, nil},
		{"POST /connections/{id}/nickname", own, []string{"nickname", "Riverside"}},
		{"POST /connections/{id}/ask", boss, nil},
		{"POST /connections/{id}/ask", boss, []string{"how", "link"}},
		{"POST /connections/{id}/notes", boss, []string{"note", "Called the shop."}},
		{"POST /reconnect/{secret}", own, nil},
		{"POST /connections/{id}/reconnect", own, nil},
		{"POST /connections/{id}/disconnect", own, nil},
		{"POST /account", own, []string{"do", "save", "name", "Sok"}},
		{"POST /admin/mail", boss, nil},
		{"POST /admin/bulk", boss, nil},
		{"POST /admin/bulk", boss, []string{"kind", "ask"}},
		{"POST /admin/bulk/{id}", boss, []string{"do", "stop"}},
		{"POST /admin/providers/{provider}", boss, []string{"do", "check"}},
		{"POST /admin/events", boss, []string{"months", "0"}},
		{"POST /admin/keys", boss, []string{"name", "invoices", "scope", db.ScopeTokens}},
		{"POST /admin/keys/{id}/revoke", boss, nil},
		{"POST /admin/webhooks", boss, []string{"url", "https://other.platform.example/"}},
		{"POST /admin/webhooks/{id}", boss, []string{"do", "rotate"}},
		{"POST /admin/webhooks/deliveries/{id}", boss, nil},
		{"POST /admin/merchants", boss, []string{"name", "Mekong Books"}},
		{"POST /admin/users", boss, []string{"email", "new@platform.example", "role", "support"}},
		{"POST /admin/users/{id}", boss, []string{"do", "invite"}},
		{"POST /admin/users/{id}", boss, []string{"do", "end-sessions"}},
		{"POST /password", guest, []string{"email", own.email}},
		{"POST /password/{secret}", guest, []string{"password", "another horse battery"}},
		{"POST /invitations/{secret}", guest, []string{"name", "Sok", "password", "another horse battery"}},
		{"POST /login", guest, []string{"email", own.email, "password", "another horse battery"}},
		{"POST /logout", guest, nil},
		{"POST /language", guest, []string{"language", "km /login", "email", own.email}},
		{"POST /admin/merchants/{id}/erase", boss, []string{"confirm", "CH168 Shop"}},
	} {
		path := fill.Replace(strings.TrimPrefix(form.pattern, "POST "))
		if form.pattern == "POST /invitations/{secret}" { // another user's than the one who has a password already
			path = "/invitations/" + string(invitation)
		}
		got := form.by.post(path, form.fields...)
		if got.status != http.StatusSeeOther || strings.HasPrefix(got.location, "/login?") {
			t.Errorf("%s %v: %d to %q: %s", form.pattern, form.fields, got.status, got.location, got.text("main"))
		}
		sent[form.pattern] = true
	}
	for _, one := range h.server.routes() {
		if method, _, _ := strings.Cut(one.pattern, " "); method == http.MethodPost && !sent[one.pattern] && notRedirected[one.pattern] == "" {
			t.Errorf("%s: add a form that works to this test, or the reason why it leads nowhere", one.pattern)
		}
	}
}

func TestWhatIsShownOnceIsForOnePersonOnOnePage(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss, other := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport)
	made := boss.post("/admin/keys", "name", "invoices", "scope", db.ScopeTokens)
	sealed := boss.cookie(shownCookie)
	if sealed == "" || secretKey.MatchString(sealed) {
		t.Fatalf("%d, or the key is readable in the cookie", made.status)
	}
	other.setCookie(shownCookie, sealed)
	if got := other.get("/admin/keys"); secretKey.MatchString(got.body) {
		t.Error("another person is shown the key")
	}
	if got := boss.get("/admin/webhooks"); secretKey.MatchString(got.body) {
		t.Error("another page shows the key")
	}
	ahead := request(t, http.MethodGet, boss.at("/admin/keys"), nil)
	ahead.Header.Set("Sec-Purpose", "prefetch")
	if got := boss.do(ahead); secretKey.MatchString(got.body) {
		t.Error("a prefetched page shows the key")
	}
	if got := boss.follow(made); !secretKey.MatchString(got.body) {
		t.Error("the list does not show the key")
	}
	if got := boss.follow(made); secretKey.MatchString(got.body) {
		t.Error("the key is shown twice")
	}
	boss.setCookie(shownCookie, sealed[:len(sealed)-4]+"AAAA")
	if got := boss.get("/admin/keys"); got.status != http.StatusOK || secretKey.MatchString(got.body) {
		t.Errorf("a forged cookie: %d", got.status)
	}
}
