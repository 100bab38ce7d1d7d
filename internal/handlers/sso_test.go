package handlers

import (
	"context"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/sso"
	"patchbay/internal/sso/ssotest"
	"patchbay/internal/status"
)

// ssoServer is a Patchbay with sign-in through a platform.
type ssoServer struct {
	*testServer
	issuer *ssotest.Issuer
	shop   db.Merchant
}

func newSSOServer(t *testing.T) *ssoServer {
	t.Helper()
	clock := dbtest.NewClock(time.Now().UTC())
	issuer := ssotest.New(t, clock.Clock.Now)
	s := &ssoServer{issuer: issuer}
	s.testServer = newTestServer(t, withClock(clock), withOptions(func(o *Options, _ *jobs.Options) {
		o.SSO, o.SSOTitle = platformAt(issuer.URL, o.PublicURL, o.DB), "Canal Accounts"
	}))
	var err error
	if s.shop, err = s.db.AddMerchant(t.Context(), audit.System, db.Merchant{Name: "CH168 Shop", ExternalID: "m-168"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func platformAt(issuer string, public *url.URL, d *db.DB) *sso.Provider {
	return sso.New(sso.Options{
		Issuer: issuer, ClientID: ssotest.ClientID, ClientSecret: ssotest.ClientSecret, Callback: public.String() + "/login/sso/callback",
		RoleClaim: "groups", Admin: []string{"admins"}, Support: []string{"helpdesk"}, MerchantClaim: "merchant", Now: d.Now,
	})
}

// claims of a person with a subject.
func claims(sub string, pairs ...any) map[string]any {
	all := map[string]any{"sub": sub, "name": "Dara Sok", "email": "dara@platform.example"}
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		all[name] = pairs[i+1]
	}
	return all
}

// leave begins to sign in and returns the address to which the provider sends the browser back.
func (p *person) leaveForSSO(next string) string {
	p.t.Helper()
	begun := p.get("/login/sso?next=" + url.QueryEscape(next))
	if begun.status != http.StatusSeeOther {
		p.t.Fatalf("beginning: %d %s", begun.status, begun.h1())
	}
	return p.at(p.get(begun.location).location)
}

// ssoSignIn signs in and returns the answer at the callback.
func (p *person) ssoSignIn(next string) answer {
	p.t.Helper()
	return p.get(p.leaveForSSO(next))
}

func (p *person) isSignedIn() bool {
	p.t.Helper()
	return p.get("/account").status == http.StatusOK
}

// newestUser is the one who was added last.
func (h *ssoServer) newestUser() pg.ID {
	h.t.Helper()
	users, err := h.accounts.ListUsers(h.t.Context(), account.UserQuery{}, "", 50)
	if err != nil || len(users.Rows) == 0 {
		h.t.Fatalf("%d users: %v", len(users.Rows), err)
	}
	return slices.MaxFunc(users.Rows, func(a, b account.UserRow) int { return strings.Compare(a.ID.String(), b.ID.String()) }).ID
}

func TestSigningInThroughThePlatform(t *testing.T) {
	h := newSSOServer(t)
	page := h.visitor("").get("/login?next=%2Faccount")
	if got := page.text("main a.primary"); got != "Sign in with \u2068Canal Accounts\u2069" && got != "Sign in with Canal Accounts" {
		t.Errorf("the button says %q", got)
	}
	if !page.has(`a.primary[href="/login/sso?next=%2Faccount"]`) || !page.has(`form[action="/login"] input[name=password]`) || page.has("button.primary") {
		t.Error("the platform's button is not the only primary one, with the password below")
	}
	for what, c := range map[string]struct {
		claims map[string]any
		next   string
		leads  string
		says   string // on /account
	}{
		"an admin":                   {claims("1", "groups", []string{"all", "admins"}), "", "/admin", "Dara Sok"},
		"support":                    {claims("2", "groups", "helpdesk"), "/admin/events", "/admin/events", "Dara Sok"},
		"a merchant's":               {claims("3", "merchant", "m-168"), "", "/", "CH168 Shop"},
		"both: the staff role wins":  {claims("4", "merchant", "m-168", "groups", "helpdesk"), "", "/admin", "Dara Sok"},
		"both roles: an admin":       {claims("5", "groups", []string{"helpdesk", "admins"}), "", "/admin", "Dara Sok"},
		"staff with a lost merchant": {claims("6", "merchant", "gone", "groups", "helpdesk"), "", "/admin", "Dara Sok"},
	} {
		h.issuer.Person(c.claims)
		p := h.visitor("")
		if got := p.ssoSignIn(c.next); got.status != http.StatusSeeOther || got.location != c.leads {
			t.Errorf("%s: %d %s %s, want %s", what, got.status, got.location, got.h1(), c.leads)
		}
		account := p.get("/account")
		if !strings.Contains(account.body, c.says) || !strings.Contains(account.body, "Canal Accounts") || account.has("input[type=password]") {
			t.Errorf("%s: the account page is %s", what, account.h1())
		}
		if p.cookie("sso") != "" {
			t.Errorf("%s: the attempt's cookie is still there", what)
		}
	}
	if got := h.events(status.UserSignedIn); got != 6 {
		t.Errorf("%d events of signing in", got)
	}
	admin := h.visitor("")
	h.issuer.Person(claims("1", "groups", "admins"))
	admin.ssoSignIn("")
	if events := admin.get("/admin/events"); !strings.Contains(events.body, "signed in through") {
		t.Error("the list of events does not say through what they signed in")
	}
	if got := admin.post("/account", "do", "password", "current", "", "password", "another long password"); got.status != http.StatusBadRequest {
		t.Errorf("a password for somebody without one: %d", got.status)
	}
	admin.post("/account", "do", "save", "name", "Mallory", "locale", "fr")
	if got := admin.get("/account"); strings.Contains(got.body, "Mallory") || !strings.Contains(got.body, "Dara Sok") {
		t.Error("the name is not the provider's any more")
	}
	users := admin.get("/admin/users")
	if !strings.Contains(users.body, "plateforme") || users.has("button[value=invite]") || users.has("input[name=role][value=admin]") {
		t.Error("the list of users offers what does not work for somebody of the platform")
	}
}

func TestWhoIsTurnedAway(t *testing.T) {
	h := newSSOServer(t)
	boss := h.staff(audit.RoleAdmin)
	for what, c := range map[string]struct {
		claims map[string]any
		h1     string
	}{
		"no group":          {claims("1"), "You have no access here"},
		"other groups":      {claims("1", "groups", []string{"Admins", "sales"}), "You have no access here"},
		"an unknown shop":   {claims("1", "merchant", "m-999"), "Your business is not known here"},
		"a shop by name":    {claims("1", "merchant", "CH168 Shop"), "Your business is not known here"},
		"a shop by its id":  {claims("1", "merchant", h.shop.ID.String()), "Your business is not known here"},
		"two shops":         {claims("1", "merchant", []string{"m-168", "m-169"}), "You act for several businesses"},
		"a very long shop":  {claims("1", "merchant", strings.Repeat("m", 100_000)), "Your business is not known here"},
		"a shop as a truth": {claims("1", "merchant", true), "You have no access here"},
	} {
		h.issuer.Person(c.claims)
		p := h.visitor("")
		got := p.ssoSignIn("/account")
		if got.status != http.StatusForbidden || got.h1() != c.h1 || p.isSignedIn() {
			t.Errorf("%s: %d %s", what, got.status, got.h1())
		}
		if !got.has(`a[href="/login/sso?next=%2Faccount"]`) || !got.has(`a[href="/login?next=%2Faccount"]`) || !got.has(".reference") || strings.Contains(got.body, "code=") {
			t.Errorf("%s: the page lacks its buttons or its reference, or repeats the answer", what)
		}
	}
	if got := h.events(status.UserTurnedAway); got < 8 {
		t.Errorf("%d events of people turned away", got)
	}
	if events := boss.get("/admin/events"); !strings.Contains(events.body, "may not come in here") {
		t.Error("the list of events does not show it")
	}
	if got := h.events(status.UserAdded); got != 1 { // the admin with a password
		t.Errorf("%d users were added", got)
	}
}

func TestAnAddressOfTheProviderTakesNoAccountOver(t *testing.T) {
	h := newSSOServer(t)
	boss := h.staff(audit.RoleAdmin)
	thief := claims("thief", "groups", "helpdesk")
	thief["email"], thief["email_verified"] = boss.email, true
	h.issuer.Person(thief)
	p := h.visitor("")
	p.ssoSignIn("")
	if got := p.post("/admin/keys", "name", "x"); got.status != http.StatusForbidden {
		t.Errorf("somebody with the admin's address is an admin: %d", got.status)
	}
	again := h.visitor(boss.email)
	again.signIn("")
	if got := again.get("/admin/users"); got.status != http.StatusOK {
		t.Errorf("the admin cannot sign in any more: %d", got.status)
	}
	// A person of the platform is sent no link for a password, which would make them a second way in.
	delete(thief, "email_verified")
	thief["email"] = "only@platform.example"
	h.issuer.Person(thief)
	h.visitor("").ssoSignIn("")
	h.startJobs()
	h.visitor("").post("/password", "email", "only@platform.example")
	h.visitor("").post("/password", "email", boss.email)
	h.mailTo(boss.email, "/password/")
	mails, err := notify.OutboxMails(t.Context(), h.db.Keyring, 20)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mails {
		if m.Recipient == "only@platform.example" {
			t.Errorf("a mail to somebody without a password: %s", m.Text)
		}
	}
}

func TestRolesFollowTheProvider(t *testing.T) {
	h := newSSOServer(t)
	h.issuer.Person(claims("1", "groups", "admins"))
	first, second := h.visitor(""), h.visitor("")
	first.ssoSignIn("")
	h.issuer.Person(claims("1", "groups", "helpdesk"))
	second.ssoSignIn("")
	if first.isSignedIn() {
		t.Error("the session with the old role lives on")
	}
	if got := second.post("/admin/keys", "name", "x"); got.status != http.StatusForbidden {
		t.Errorf("demoted, and still an admin: %d", got.status)
	}
	h.issuer.Person(claims("1"))
	if got := h.visitor("").ssoSignIn(""); got.status != http.StatusForbidden {
		t.Errorf("without a role: %d", got.status)
	}
	if second.isSignedIn() {
		t.Error("the session of somebody without a role lives on")
	}
	h.issuer.Person(claims("1", "groups", "admins"))
	third := h.visitor("")
	third.ssoSignIn("")
	if got := third.get("/admin"); got.status != http.StatusOK {
		t.Errorf("with a role again: %d", got.status)
	}
	// Locked here stays locked.
	if err := h.accounts.LockUser(t.Context(), audit.System, h.newestUser()); err != nil {
		t.Fatal(err)
	}
	got := h.visitor("").ssoSignIn("")
	if got.status != http.StatusForbidden || got.h1() != "Your access here was ended" || got.has(`a[href^="/login/sso"]`) {
		t.Errorf("locked: %d %s", got.status, got.h1())
	}
	if third.isSignedIn() {
		t.Error("the session outlives the lock")
	}
}

func TestAnotherIssuersSubjectIsSomebodyElse(t *testing.T) {
	h := newSSOServer(t)
	h.issuer.Person(claims("1", "groups", "admins"))
	h.visitor("").ssoSignIn("")
	before := h.newestUser()
	other := ssotest.New(t, h.db.Now)
	other.Person(claims("1", "groups", "helpdesk"))
	h.server.SSO = platformAt(other.URL, h.server.PublicURL, h.db)
	p := h.visitor("")
	if got := p.ssoSignIn(""); got.location != "/admin" {
		t.Fatalf("%d %s", got.status, got.h1())
	}
	if h.newestUser() == before {
		t.Error("the same subject at another issuer is the same user")
	}
	// What the first issuer said is no answer to the second.
	h.server.SSO = platformAt(h.issuer.URL, h.server.PublicURL, h.db)
	late := h.visitor("")
	back := late.leaveForSSO("")
	h.server.SSO = platformAt(other.URL, h.server.PublicURL, h.db)
	if got := late.get(back); got.status != http.StatusBadGateway || late.isSignedIn() {
		t.Errorf("an answer of the first issuer at the second: %d %s", got.status, got.h1())
	}
}

func TestAnswersInTheWrongHands(t *testing.T) {
	h := newSSOServer(t)
	h.issuer.Person(claims("1", "groups", "admins"))
	for what, do := range map[string]func(p *person) answer{
		"another browser's answer": func(p *person) answer { return p.get(h.visitor("").leaveForSSO("")) },
		"another browser's answer, after beginning oneself": func(p *person) answer {
			p.leaveForSSO("")
			return p.get(h.visitor("").leaveForSSO(""))
		},
		"an answer, and the cookie is gone": func(p *person) answer {
			back := p.leaveForSSO("")
			p.newBrowser()
			return p.get(back)
		},
		"a changed cookie": func(p *person) answer {
			back := p.leaveForSSO("")
			p.setCookie("sso", p.cookie("sso")[:20]+"AAAA"+p.cookie("sso")[24:])
			return p.get(back)
		},
		"another cookie of ours in its place": func(p *person) answer {
			back := p.leaveForSSO("")
			q := h.visitor("")
			q.ssoSignIn("")
			p.setCookie("sso", q.cookie("session"))
			return p.get(back)
		},
		"a changed state": func(p *person) answer {
			u, _ := url.Parse(p.leaveForSSO(""))
			v := u.Query()
			v.Set("state", "x")
			return p.get("/login/sso/callback?" + v.Encode())
		},
		"an answer that comes late": func(p *person) answer {
			back := p.leaveForSSO("")
			h.clock.Advance(ssoLifetime + time.Second)
			return p.get(back)
		},
		"no answer at all":            func(p *person) answer { return p.get("/login/sso/callback") },
		"an error of nobody's making": func(p *person) answer { return p.get("/login/sso/callback?error=access_denied&state=x") },
	} {
		p := h.visitor("")
		if got := do(p); got.status != http.StatusBadRequest || got.h1() != "This sign-in is over" || p.isSignedIn() {
			t.Errorf("%s: %d %s", what, got.status, got.h1())
		}
	}
}

func TestAnAnswerCountsOnce(t *testing.T) {
	h := newSSOServer(t)
	h.issuer.Person(claims("1", "groups", "admins"))
	p := h.visitor("")
	back := p.leaveForSSO("/admin/keys")
	kept := p.cookie("sso")
	// The issuer takes a code more than once.
	if got := p.do(request(t, http.MethodHead, back, nil)); got.status != http.StatusNoContent {
		t.Errorf("HEAD: %d", got.status)
	}
	ahead := request(t, http.MethodGet, back, nil)
	ahead.Header.Set("Sec-Purpose", "prefetch")
	if got := p.do(ahead); got.status != http.StatusNoContent {
		t.Errorf("a prefetch: %d", got.status)
	}
	if got := p.get(back); got.location != "/admin/keys" {
		t.Fatalf("%d %s", got.status, got.h1())
	}
	if got := p.get(back); got.status != http.StatusSeeOther || got.location != "/admin" {
		t.Errorf("again, signed in: %d %s", got.status, got.location)
	}
	thief := h.visitor("")
	thief.setCookie("sso", kept)
	if got := thief.get(back); got.status != http.StatusBadRequest || thief.isSignedIn() {
		t.Errorf("again, with a copy of the cookie: %d %s", got.status, got.h1())
	}
	// Nor does an answer that failed.
	h.issuer.Answer("/token", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	q := h.visitor("")
	back, kept = q.leaveForSSO(""), q.cookie("sso")
	if got := q.get(back); got.status != http.StatusServiceUnavailable {
		t.Errorf("%d %s", got.status, got.h1())
	}
	h.issuer.Answer("/token", nil)
	q.setCookie("sso", kept)
	if got := q.get(back); got.status != http.StatusBadRequest || q.isSignedIn() {
		t.Errorf("after a failure: %d %s", got.status, got.h1())
	}
}

func TestTheProvidersErrorsArePages(t *testing.T) {
	h := newSSOServer(t)
	h.issuer.Person(claims("1", "groups", "admins"))
	for code, want := range map[string]struct {
		status int
		h1     string
	}{
		"access_denied": {http.StatusForbidden, "You were not signed in"}, "login_required": {http.StatusForbidden, "You were not signed in"},
		"temporarily_unavailable": {http.StatusServiceUnavailable, "Canal Accounts does not answer"}, "server_error": {http.StatusServiceUnavailable, "Canal Accounts does not answer"},
		"invalid_scope": {http.StatusBadGateway, "You could not be signed in"}, "<script>": {http.StatusBadGateway, "You could not be signed in"},
	} {
		p := h.visitor("")
		u, err := url.Parse(p.leaveForSSO("/account"))
		if err != nil {
			t.Fatal(err)
		}
		v := url.Values{"error": {code}, "error_description": {"<b>give us your password</b>"}, "state": u.Query()["state"], "iss": {h.issuer.URL}}
		got := p.get("/login/sso/callback?" + v.Encode())
		if got.status != want.status || !strings.Contains(got.h1(), strings.Split(want.h1, "Accounts")[len(strings.Split(want.h1, "Accounts"))-1]) || p.isSignedIn() {
			t.Errorf("%s: %d %s", code, got.status, got.h1())
		}
		if strings.Contains(got.body, "give us") || strings.Contains(got.body, "<script>") {
			t.Errorf("%s: the page repeats what the provider says", code)
		}
	}
}

func TestAProviderThatIsAwayKeepsNobodyFromPasswords(t *testing.T) {
	h := newSSOServer(t)
	boss := h.staff(audit.RoleAdmin)
	h.issuer.Answer("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	got := h.visitor("").get("/login/sso?next=/account")
	if got.status != http.StatusServiceUnavailable || !strings.Contains(got.h1(), "does not answer") || !got.has(`a[href="/login?next=%2Faccount"]`) {
		t.Errorf("%d %s", got.status, got.h1())
	}
	if p := h.visitor(boss.email); p.signIn("/account") != "/account" {
		t.Error("passwords do not work")
	}
}

func TestWhereSigningInThroughThePlatformLeads(t *testing.T) {
	h := newSSOServer(t)
	h.issuer.Person(claims("1", "groups", "admins"))
	for next, want := range map[string]string{
		"/admin/events?kind=user.signed-in": "/admin/events?kind=user.signed-in",
		"https://evil.example/":             "/admin", "//evil.example": "/admin", `/\evil.example`: "/admin", "javascript:alert(1)": "/admin", "/\n//evil.example": "/admin",
		"/logout": "/admin", "/login": "/admin", "/login/sso": "/admin", "/login/sso?next=/admin": "/admin", "/x/../login/sso": "/admin", "/login/sso/": "/admin",
		"/" + strings.Repeat("a", 5000): "/admin",
	} {
		if got := h.visitor("").ssoSignIn(next); got.location != want {
			t.Errorf("next %.40q leads to %d %q, want %q", next, got.status, got.location, want)
		}
	}
}

func TestASessionPlantedBeforeSigningInThroughThePlatformEnds(t *testing.T) {
	h := newSSOServer(t)
	mallory := h.merchant("Mallory Shop")
	h.issuer.Person(claims("1", "groups", "admins"))
	victim := h.visitor("")
	victim.setCookie("session", mallory.cookie("session"))
	if got := victim.ssoSignIn("/account"); got.location != "/account" || !strings.Contains(victim.get("/account").body, "Dara Sok") {
		t.Errorf("%d %s", got.status, got.h1())
	}
	if mallory.isSignedIn() {
		t.Error("the session that was planted lives on")
	}
}

func TestSecretsOfASignInAreNotKept(t *testing.T) {
	h := newSSOServer(t)
	h.issuer.Person(claims("1", "groups", "admins"))
	p := h.visitor("")
	back, err := url.Parse(p.leaveForSSO(""))
	if err != nil {
		t.Fatal(err)
	}
	p.get(back.String())
	broken := h.visitor("")
	h.issuer.Tamper(func(_, claims map[string]any) { claims["nonce"] = "x" })
	if got := broken.ssoSignIn(""); got.status != http.StatusBadGateway || broken.isSignedIn() {
		t.Errorf("another nonce: %d %s", got.status, got.h1())
	}
	h.noSecrets(map[string]string{
		"code": back.Query().Get("code"), "state": back.Query().Get("state"), "access token": ssotest.AccessToken, "client secret": ssotest.ClientSecret,
	})
	if !strings.Contains(h.log.String(), "nonce is another attempt's") {
		t.Error("the log does not say why")
	}
}

func TestWithoutSettingsNothingOffersThePlatform(t *testing.T) {
	h := newTestServer(t)
	if page := h.visitor("").get("/login"); page.has(`a[href^="/login/sso"]`) || !page.has("button.primary") {
		t.Error("the sign-in page offers what is not set up")
	}
	for _, path := range []string{"/login/sso", "/login/sso/callback?code=x&state=y"} {
		if got := h.visitor("").get(path); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	if err := h.accounts.EndOtherIssuers(context.Background(), ""); err != nil {
		t.Error(err)
	}
}
