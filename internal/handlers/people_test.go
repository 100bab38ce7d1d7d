package handlers

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

func TestSigningInRotatesTheSession(t *testing.T) {
	h := newTestServer(t)
	mallory, sok := h.merchant("Mallory Shop"), h.merchant("CH168 Shop")
	planted := mallory.cookie("session")
	victim := h.visitor(sok.email)
	victim.setCookie("session", planted)
	victim.signIn("")
	if now := victim.cookie("session"); now == planted || now == "" {
		t.Error("the session that was planted is still used")
	}
	if got := mallory.get("/account"); got.status != http.StatusSeeOther {
		t.Errorf("whoever planted the session still has it: %d %s", got.status, got.h1())
	}
	if got := victim.get("/account"); !strings.Contains(got.body, sok.email) {
		t.Errorf("the victim is not signed in: %s", got.h1())
	}
	for name, value := range map[string]string{"made up": "c2Vzc2lvbg", "changed": planted[:len(planted)-4] + "AAAA", "empty": ""} {
		p := h.visitor("")
		p.setCookie("session", value)
		if got := p.get("/"); got.status != http.StatusSeeOther || got.location != "/login?next=%2F" {
			t.Errorf("a session cookie that is %s: %d %s", name, got.status, got.location)
		}
	}
	copied := h.visitor("")
	copied.setCookie("session", victim.cookie("session"))
	victim.post("/logout")
	if got := copied.get("/account"); got.status != http.StatusSeeOther {
		t.Errorf("a copy of the cookie outlives signing out: %d", got.status)
	}
	if h.events(status.UserSignedIn) != 3 || h.events(status.UserSignedOut) != 1 {
		t.Errorf("events: %d in, %d out", h.events(status.UserSignedIn), h.events(status.UserSignedOut))
	}
}

func TestWhereSigningInLeads(t *testing.T) {
	h := newTestServer(t)
	sok, boss := h.merchant("CH168 Shop"), h.staff(audit.RoleAdmin)
	for next, want := range map[string]string{
		"": "/", "/connections/x?lang=km": "/connections/x?lang=km", "https://evil.example/": "/", "//evil.example": "/", `/\evil.example`: "/",
		"/logout": "/", "javascript:alert(1)": "/", "/\n//evil.example": "/",
	} {
		p := h.visitor(sok.email)
		if got := p.signIn(next); got != want {
			t.Errorf("next %q leads to %q, want %q", next, got, want)
		}
	}
	if got := h.visitor(boss.email).signIn(""); got != "/admin" {
		t.Errorf("staff are led to %q", got)
	}
	if got := sok.get("/login?next=/account"); got.status != http.StatusSeeOther || got.location != "/account" {
		t.Errorf("the sign-in page for somebody signed in: %d %s", got.status, got.location)
	}
}

func TestSecureCookies(t *testing.T) {
	h := newTestServer(t, withOptions(func(o *Options, _ *jobs.Options) {
		o.PublicURL = &url.URL{Scheme: "https", Host: "connect.example.com"}
	}))
	dbtest.User(t, h.db, audit.RoleAdmin, "a@patchbay.example", password, "")
	form := url.Values{"email": {"a@patchbay.example"}, "password": {password}}
	r := httptest.NewRequest(http.MethodPost, "https://connect.example.com/login", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	h.server.Routes().ServeHTTP(w, r)
	for _, c := range w.Result().Cookies() {
		if !strings.HasPrefix(c.Name, "__Host-") || !c.Secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
			t.Errorf("cookie %+v", c)
		}
	}
	if len(w.Result().Cookies()) == 0 {
		t.Fatalf("no cookies: %d", w.Code)
	}
	if got := w.Result().Header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
		t.Errorf("Strict-Transport-Security: %q", got)
	}
	foreign := r.Clone(context.Background())
	foreign.Header.Set("Origin", "https://evil.example")
	foreign.Header.Set("Sec-Fetch-Site", "cross-site")
	w = httptest.NewRecorder()
	h.server.Routes().ServeHTTP(w, foreign)
	if w.Code != http.StatusForbidden || len(w.Result().Cookies()) != 0 {
		t.Errorf("a form from another site: %d, %d cookies", w.Code, len(w.Result().Cookies()))
	}
}

func TestSessionKeysRotate(t *testing.T) {
	old, fresh := []byte("the key of yesterday, 32 bytes and more"), []byte("the key of today, 32 bytes and more")
	h := newTestServer(t, withOptions(func(o *Options, _ *jobs.Options) { o.SessionKeys = [][]byte{old} }))
	cookie := h.merchant("CH168 Shop").cookie("session")
	for _, c := range []struct {
		name string
		keys [][]byte
		want int
	}{{"with the old key second", [][]byte{fresh, old}, http.StatusOK}, {"without it", [][]byte{fresh}, http.StatusSeeOther}} {
		o := h.server.Options
		o.SessionKeys = c.keys
		r := httptest.NewRequest(http.MethodGet, h.url+"/account", nil)
		r.AddCookie(&http.Cookie{Name: "session", Value: cookie})
		w := httptest.NewRecorder()
		New(o).Routes().ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s: %d, want %d", c.name, w.Code, c.want)
		}
	}
}

func TestTriesAreSlowedDownAndNeverLockOut(t *testing.T) {
	h := newTestServer(t)
	sok := h.merchant("CH168 Shop")
	try := func(p *person, email, word string) answer {
		return p.post("/login", "email", email, "password", word)
	}
	for name, email := range map[string]string{"known": sok.email, "unknown": "nobody@ch168.example"} {
		stranger := h.visitor("")
		h.waits = nil
		for i := range 8 {
			if got := try(stranger, strings.ToUpper(email), fmt.Sprint("wrong ", i)); got.status != http.StatusUnauthorized || got.h1() == "" {
				t.Fatalf("%s address, try %d: %d", name, i+1, got.status)
			}
		}
		if got := fmt.Sprint(h.waits); got != "[0s 0s 0s 0s 0s 0s 0s 0s 0s 0s 0s 2s 0s 2s 0s 2s]" {
			t.Errorf("%s address: waits %s", name, got) // each try waits for its network, then for its account
		}
	}
	h.server.pause = func(context.Context, time.Duration) error { return nil } // many at once: nobody's waiting moves the clock
	stranger := h.visitor("")
	var refused answer
	for range 20 {
		if refused = try(stranger, sok.email, "wrong"); refused.status == http.StatusTooManyRequests {
			break
		}
	}
	if refused.status != http.StatusTooManyRequests || !strings.Contains(refused.body, "second") {
		t.Fatalf("many at once: %d %s", refused.status, refused.body)
	}
	if got := try(sok, sok.email, password); got.status != http.StatusSeeOther {
		t.Errorf("the owner, whose browser is known, is kept out meanwhile: %d", got.status)
	}
	if got := try(h.visitor(""), sok.email, password); got.status != http.StatusTooManyRequests {
		t.Errorf("the right password from an unknown browser of the same network, out of turn: %d", got.status)
	}
	h.clock.Advance(10 * time.Second)
	if got := try(stranger, sok.email, password); got.status != http.StatusSeeOther {
		t.Errorf("the right password after waiting: %d", got.status)
	}
	if h.events(status.UserSignInFailed) == 0 {
		t.Error("failures are not written down")
	}
	if strings.Contains(h.log.String(), "wrong 1") || strings.Contains(h.log.String(), password) {
		t.Error("the log holds a password")
	}
}

// TestOneNetworkKeepsNobodyOut: an account's owner signs in with a new browser, from elsewhere, while one network or many guess.
func TestOneNetworkKeepsNobodyOut(t *testing.T) {
	proxy := netip.MustParsePrefix("127.0.0.0/8")
	h := newTestServer(t, withOptions(func(o *Options, _ *jobs.Options) { o.TrustedProxies = []netip.Prefix{proxy} }))
	sok := h.merchant("CH168 Shop")
	h.server.pause = func(context.Context, time.Duration) error { return nil }
	from := func(address, word string) int {
		p := h.visitor("")
		r := request(t, http.MethodPost, p.at("/login"), strings.NewReader(url.Values{"email": {sok.email}, "password": {word}}.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("X-Forwarded-For", address)
		r.Header.Set("X-Forwarded-Host", strings.TrimPrefix(h.url, "http://"))
		return p.do(r).status
	}
	refused := false
	for range 12 {
		refused = from("203.0.113.1", "wrong but long") == http.StatusTooManyRequests || refused
	}
	if !refused {
		t.Error("one network guesses as often as it likes")
	}
	if got := from("198.51.100.1", password); got != http.StatusSeeOther {
		t.Errorf("the owner, from elsewhere: %d", got)
	}
	for i := range 70 { // more failures than an account takes
		from(fmt.Sprintf("192.0.2.%d", i), "wrong but long")
	}
	if got := from("192.0.2.7", "wrong but long"); got != http.StatusUnauthorized {
		t.Errorf("a second try from a network that failed once: %d", got)
	}
	for range 3 {
		from("192.0.2.8", "wrong but long")
	}
	if got := from("192.0.2.8", password); got != http.StatusTooManyRequests {
		t.Errorf("a fifth try of a network that failed, while the account has failed too often: %d", got)
	}
	if got := from("198.51.100.2", password); got != http.StatusSeeOther {
		t.Errorf("the owner, from a network that has not failed, while many guess: %d", got)
	}
}

func TestSessionsEndAtOnce(t *testing.T) {
	h := newTestServer(t)
	sok := h.merchant("CH168 Shop")
	phone := h.visitor(sok.email)
	phone.client.Transport = agent("Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Mobile Safari/537.36")
	phone.signIn("")
	page := sok.get("/account")
	if !strings.Contains(page.body, "Chrome · Android") || !strings.Contains(page.body, "127.0.0.1") {
		t.Error("the account page does not name the other device and place")
	}
	if got := sok.submit(page, "[name=session]", "do", "end-session"); got.status != http.StatusSeeOther || h.events(status.UserSessionsEnded) != 1 {
		t.Fatalf("end: %d", got.status)
	}
	if got := phone.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("the phone is still signed in: %d", got.status)
	}
	phone.signIn("")
	if got := sok.post("/account", "do", "password", "current", password, "password", "another horse battery"); got.status != http.StatusSeeOther {
		t.Fatalf("change password: %d %s", got.status, got.body)
	}
	if got := phone.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("the phone outlives the password: %d", got.status)
	}
	if got := sok.get("/account"); got.status != http.StatusOK || !got.says("notice.password-changed") {
		t.Errorf("this browser after changing the password: %d", got.status)
	}
	for name, fields := range map[string][]string{
		"wrong":  {"do", "password", "current", password, "password", "a third horse battery"},
		"short":  {"do", "password", "current", "another horse battery", "password", "short"},
		"common": {"do", "password", "current", "another horse battery", "password", "1234567890"},
		"name":   {"do", "save", "name", strings.Repeat("x", text.MaxName+1)},
	} {
		if got := sok.post("/account", fields...); got.status != http.StatusUnprocessableEntity || !got.has("#errors") {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	if n := h.events(status.UserPasswordRefused); n != 1 {
		t.Errorf("%d wrong passwords are noted, want 1", n)
	}
	if got := sok.post("/account", "do", "save", "name", "", "locale", "km"); got.status != http.StatusSeeOther {
		t.Errorf("a language without a name: %d", got.status)
	}
	if !sok.get("/account").has(`html[lang="km"]`) {
		t.Error("the language chosen is not spoken")
	}
	user, err := h.accounts.UserByEmail(context.Background(), sok.email)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.accounts.LockUser(context.Background(), audit.System, user.ID); err != nil {
		t.Fatal(err)
	}
	if got := sok.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("a locked user goes on: %d", got.status)
	}
}

// agent is a browser's name on every request.
type agent string

func (a agent) RoundTrip(r *http.Request) (*http.Response, error) {
	r.Header.Set("User-Agent", string(a))
	return http.DefaultTransport.RoundTrip(r)
}

func TestAnAdminSwitchesMailsOffOnTheAccountPage(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	admin, other := h.staff(audit.RoleAdmin), h.visitor("other@platform.example")
	dbtest.User(t, h.db, audit.RoleAdmin, other.email, password, "")
	wanted := func(p *person) bool {
		t.Helper()
		u, err := h.accounts.UserByEmail(t.Context(), p.email)
		if err != nil {
			t.Fatal(err)
		}
		return u.Notices
	}
	page := admin.wants("/account", words("account.notices-on"))
	for _, click := range []struct {
		now           bool
		notice, state string
	}{
		{false, "notice.notices-off", "account.notices-off"},
		{true, "notice.notices-on", "account.notices-on"},
	} {
		if got := admin.submit(page, `[name="wanted"]`); got.status != http.StatusSeeOther {
			t.Fatalf("%s: %d %s", click.notice, got.status, got.text("main"))
		}
		page = admin.get("/account")
		if !page.says(click.notice) || !page.says(click.state) || wanted(admin) != click.now || !wanted(other) {
			t.Errorf("%s: wanted is %v, the other's %v: %s", click.notice, wanted(admin), wanted(other), page.text("main"))
		}
	}
	for role, p := range map[string]*person{"support": h.staff(audit.RoleSupport), "a merchant": h.merchant("CH168 Shop")} {
		if p.get("/account").has("#notices") {
			t.Errorf("%s gets no such mails and can switch them off", role)
		}
		if got := p.post("/account", "do", "notices", "wanted", "no"); got.status != http.StatusBadRequest || !wanted(p) {
			t.Errorf("%s switches them off: %d", role, got.status)
		}
	}
}

func TestLanguageIsAsChosen(t *testing.T) {
	h := newTestServer(t)
	sok := h.merchant("CH168 Shop")
	lang := func(p *person, path, accept string) string {
		t.Helper()
		r := request(t, http.MethodGet, p.at(path), nil)
		r.Header.Set("Accept-Language", accept)
		lang := p.do(r).attribute("html", "lang")
		if lang == "" {
			t.Fatalf("no page at %s", path)
		}
		return lang
	}
	stranger := h.visitor("")
	for accept, want := range map[string]string{"km-KH,en;q=0.5": "km", "fr-CA": "fr", "de": "en", "": "en"} {
		if got := lang(stranger, "/login", accept); got != want {
			t.Errorf("Accept-Language %q gives %s", accept, got)
		}
	}
	if got := lang(stranger, "/login?lang=km", "fr"); got != "km" {
		t.Errorf("chosen by link: %s", got)
	}
	if got := lang(stranger, "/login", "fr"); got != "km" {
		t.Errorf("chosen before: %s", got)
	}
	if got := lang(stranger, "/login?lang=xx", "fr"); got != "km" {
		t.Errorf("a language nobody speaks: %s", got)
	}
	sok.post("/account", "do", "save", "name", "Sok", "locale", "fr")
	if got := lang(sok, "/account", "km"); got != "fr" {
		t.Errorf("the account's own: %s", got)
	}
	if got := lang(sok, "/account?lang=en", "km"); got != "en" {
		t.Errorf("chosen over the account's: %s", got)
	}
}

func TestForgottenPassword(t *testing.T) {
	h := newTestServer(t)
	h.startJobs()
	sok := h.merchant("CH168 Shop")
	stranger := h.visitor("")
	known, unknown := stranger.follow(stranger.post("/password", "email", sok.email)), stranger.follow(stranger.post("/password", "email", "nobody@ch168.example"))
	if known.status != http.StatusOK || strings.ReplaceAll(known.body, sok.email, "") != strings.ReplaceAll(unknown.body, "nobody@ch168.example", "") {
		t.Errorf("the page tells whether an address is known: %d, %d", known.status, unknown.status)
	}
	enqueued := 0
	if err := h.db.Pool.QueryRow(t.Context(), `SELECT count(*) FROM river_job WHERE kind = 'mail'`).Scan(&enqueued); err != nil || enqueued != 2 {
		t.Errorf("%d jobs for two addresses, %v: the time of an answer tells which is known", enqueued, err)
	}
	link := regexp.MustCompile(`http://\S+/password/\S+`).FindString(h.mailTo(sok.email, "/password/"))
	if n := h.events(status.UserPasswordLink); n != 1 {
		t.Errorf("%d links for a new password are noted, want 1", n)
	}
	for range 3 {
		if got := stranger.get(link); got.status != http.StatusOK || !strings.Contains(got.body, sok.email) {
			t.Fatalf("opening the link: %d %s", got.status, got.h1())
		}
	}
	if got := stranger.post(link, "password", "short"); got.status != http.StatusUnprocessableEntity {
		t.Errorf("a short password: %d", got.status)
	}
	if got := stranger.post(link, "password", "another horse battery"); got.status != http.StatusSeeOther || got.location != "/" {
		t.Fatalf("a new password: %d %s", got.status, got.h1())
	}
	if got := stranger.get("/account"); !strings.Contains(got.body, sok.email) {
		t.Errorf("not signed in afterwards: %s", got.h1())
	}
	if got := sok.get("/account"); got.status != http.StatusSeeOther {
		t.Errorf("the old session goes on: %d", got.status)
	}
	if got := h.visitor("").get(link); got.status != http.StatusNotFound || !strings.Contains(got.body, "/password") {
		t.Errorf("the spent link: %d %s", got.status, got.h1())
	}
	outbox := h.visitor("").get("/outbox")
	if outbox.status != http.StatusOK || !strings.Contains(outbox.body, sok.email) {
		t.Errorf("the outbox: %d", outbox.status)
	}
	looks := outbox.document().Find(`a[href^="/outbox/"]`)
	if looks.Length() == 0 {
		t.Error("no mail is shown as HTML")
	}
	for _, look := range looks.EachIter() {
		got, err := client.Get(h.url + look.AttrOr("href", ""))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(got.Body)
		got.Body.Close()
		policy := got.Header.Get("Content-Security-Policy")
		if err != nil || got.StatusCode != http.StatusOK || !strings.Contains(string(body), `<base target="_blank">`) || !strings.Contains(policy, "default-src 'none'") ||
			!strings.Contains(policy, "; sandbox allow-popups") || strings.Contains(policy, "script") {
			t.Errorf("the mail %s: %d, %s", look.AttrOr("href", ""), got.StatusCode, policy)
		}
	}
	for _, path := range []string{"/outbox/1", "/outbox/" + pg.NewID().String()} {
		if got := h.visitor("").get(path); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", path, got.status)
		}
	}
	h.noSecrets(map[string]string{
		"session": sok.cookie("session"), "link": link[strings.LastIndex(link, "/")+1:], "password": "another horse battery", "old password": password,
	})
}

func TestInvitationWithoutMail(t *testing.T) {
	h := newTestServer(t, withOptions(func(_ *Options, o *jobs.Options) { o.Outbox = false }))
	boss, helper, sok := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport), h.merchant("CH168 Shop")
	fields := []string{"email", "dara@ch168.example", "name", "Dara", "role", "merchant", "merchant", "ch168 shop"}
	if got := helper.post("/admin/users", fields...); got.status != http.StatusForbidden {
		t.Errorf("support invites: %d", got.status)
	}
	if got := sok.post("/admin/users", fields...); got.status != http.StatusNotFound {
		t.Errorf("a merchant invites: %d", got.status)
	}
	if got := helper.get("/admin/users"); got.status != http.StatusOK || !strings.Contains(got.body, sok.email) {
		t.Errorf("support looks: %d", got.status)
	}
	got := boss.follow(boss.post("/admin/users", fields...))
	link := regexp.MustCompile(`http://[^<"\s]+/invitations/[A-Za-z0-9_-]{43}`).FindString(got.body)
	if got.status != http.StatusOK || link == "" {
		t.Fatalf("no link is shown: %d %s", got.status, got.body)
	}
	for name, wrong := range map[string][]string{
		"taken": fields, "no merchant": {"email", "x@ch168.example", "role", "merchant"}, "unknown merchant": {"email", "x@ch168.example", "role", "merchant", "merchant", "None"},
		"no address": {"email", "x", "role", "support"}, "no role": {"email", "x@ch168.example", "role", "owner"},
	} {
		if got := boss.post("/admin/users", wrong...); got.status != http.StatusUnprocessableEntity || !got.has("#errors") {
			t.Errorf("%s: %d %s", name, got.status, got.h1())
		}
	}
	dara := h.visitor("dara@ch168.example")
	for range 2 {
		if got := dara.get(link); got.status != http.StatusOK || !strings.Contains(got.body, "CH168 Shop") {
			t.Fatalf("opening the invitation: %d %s", got.status, got.h1())
		}
	}
	if got := dara.post(link, "name", "Dara", "password", password); got.status != http.StatusSeeOther || got.location != "/" {
		t.Fatalf("accepting: %d %s", got.status, got.h1())
	}
	if got := dara.get("/account"); !strings.Contains(got.body, sok.email) {
		t.Error("a merchant's person does not see who else has access")
	}
	if got := h.visitor("").post(link, "name", "Dara", "password", password); got.status != http.StatusNotFound {
		t.Errorf("accepting twice: %d", got.status)
	}
	if got := dara.get("/outbox"); got.status != http.StatusNotFound {
		t.Errorf("an outbox outside of the demo: %d", got.status)
	}
	h.noSecrets(map[string]string{"link": link[strings.LastIndex(link, "/")+1:]})
}

func TestChangingPeople(t *testing.T) {
	h := newTestServer(t)
	boss, helper, sok := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport), h.merchant("CH168 Shop")
	path := func(p *person) string {
		u, err := h.accounts.UserByEmail(context.Background(), p.email)
		if err != nil {
			t.Fatal(err)
		}
		return "/admin/users/" + u.ID.String()
	}
	for do, fields := range map[string][]string{"lock": {"do", "lock"}, "role": {"do", "role", "role", "support"}} {
		if got := boss.post(path(boss), fields...); got.status != http.StatusConflict {
			t.Errorf("%s the last admin: %d", do, got.status)
		}
	}
	if got := boss.post(path(sok), "do", "role", "role", "admin"); got.status != http.StatusConflict {
		t.Errorf("a merchant's person as admin: %d", got.status)
	}
	if got := helper.post(path(sok), "do", "lock"); got.status != http.StatusForbidden {
		t.Errorf("support locks: %d", got.status)
	}
	if got := boss.post(path(sok), "do", "lock"); got.status != http.StatusSeeOther || got.location != "/admin/users" {
		t.Errorf("lock: %d %s", got.status, got.location)
	}
	if got := sok.get("/"); got.status != http.StatusSeeOther {
		t.Errorf("locked, and still in: %d", got.status)
	}
	boss.post(path(sok), "do", "unlock")
	sok.signIn("")
	boss.post(path(helper), "do", "role", "role", "admin")
	if got := helper.get("/admin/users"); got.status != http.StatusSeeOther {
		t.Errorf("a new role began without signing in: %d", got.status)
	}
	changed, err := h.db.Audit.Latest(t.Context(), 1, status.UserRoleChanged)
	if err != nil || len(changed) != 1 || changed[0].Note != helper.email+": support → admin" {
		t.Errorf("the event of a new role: %+v %v", changed, err)
	}
	helper.signIn("")
	if got := helper.post(path(boss), "do", "role", "role", "support"); got.status != http.StatusSeeOther {
		t.Errorf("one of two admins: %d", got.status)
	}
	for _, missing := range []string{"/admin/users/" + pg.NewID().String(), "/admin/users/x"} {
		if got := helper.post(missing, "do", "lock"); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", missing, got.status)
		}
	}
}

func TestMerchantPages(t *testing.T) {
	h := newTestServer(t)
	boss, helper := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport)
	if got := helper.post("/admin/merchants", "name", "X"); got.status != http.StatusForbidden {
		t.Errorf("support adds: %d", got.status)
	}
	got := boss.post("/admin/merchants", "name", "ក្រុមហ៊ុនស៊ីអេច១៦៨", "external_id", "shop-17", "locale", "km")
	if got.status != http.StatusSeeOther {
		t.Fatalf("add: %d %s", got.status, got.body)
	}
	if page := helper.get(got.location); page.status != http.StatusOK || page.h1() != "ក្រុមហ៊ុនស៊ីអេច១៦៨" {
		t.Errorf("the merchant's page: %d %s", page.status, page.h1())
	}
	for name, fields := range map[string][]string{"no name": {"name", " "}, "id taken": {"name", "Other", "external_id", "shop-17"}} {
		if got := boss.post("/admin/merchants", fields...); got.status != http.StatusUnprocessableEntity || !got.has("#errors") {
			t.Errorf("%s: %d", name, got.status)
		}
	}
	for i := range 60 {
		if _, err := h.db.AddMerchant(context.Background(), audit.System, db.Merchant{Name: "Shop " + strconv.Itoa(100+i)}); err != nil {
			t.Fatal(err)
		}
	}
	page := helper.get("/admin/merchants")
	next := page.attribute("[rel=next]", "href")
	if next == "" {
		t.Fatal("no next page of 61 merchants")
	}
	page = helper.get(next)
	if !strings.Contains(page.body, "Shop 150") || strings.Contains(page.body, "Shop 149") || !page.has(`[rel="prev"]`) {
		t.Error("the next page does not go on where the first ended")
	}
	if page := helper.get("/admin/merchants?q=%E1%9E%9F%E1%9F%8A%E1%9E%B8%E1%9E%A2%E1%9F%81%E1%9E%85%00"); !strings.Contains(page.body, "shop-17") {
		t.Errorf("found by Khmer name: %d", page.status)
	}
}

func TestAskingToReconnect(t *testing.T) {
	h := newTestServer(t)
	h.startJobs()
	helper, sok, other := h.staff(audit.RoleSupport), h.merchant("CH168 Shop"), h.merchant("Other Shop")
	id := dbtest.Connection(t, h.db, sok.merchant, "caminvoice", "KHUID00001234", "CH168 Co., Ltd", dbtest.Refused(h.db.Now()))
	ask := "/connections/" + id.String() + "/ask"
	if got := sok.post(ask); got.status != http.StatusNotFound {
		t.Errorf("a merchant asks: %d", got.status)
	}
	if got := helper.submit(helper.get(strings.TrimSuffix(ask, "/ask")), `[action^="`+ask+`"]`); got.status != http.StatusSeeOther || got.location != strings.TrimSuffix(ask, "/ask")+"#ask" {
		t.Fatalf("ask by mail: %d %s", got.status, got.location)
	}
	if got := helper.get(strings.TrimSuffix(ask, "/ask")); !got.says("admin_connection.written-to", "To", sok.email) {
		t.Error("support is not told to whom it was written")
	}
	link := regexp.MustCompile(`http://\S+/reconnect/\S+`).FindString(h.mailTo(sok.email, "/reconnect/"))
	stranger := h.visitor(sok.email)
	if got := stranger.get(link); got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, "/login?next=") {
		t.Errorf("the link shows something to nobody: %d %s", got.status, got.location)
	}
	for name, got := range map[string]answer{"opens": other.get(link), "follows": other.post(link)} {
		if got.status != http.StatusNotFound || got.h1() != "This link is for another business" || strings.Contains(got.body, "CH168") || strings.Contains(got.body, id.String()) {
			t.Errorf("another merchant %s the link: %d %s", name, got.status, got.h1())
		}
	}
	left := other.submit(other.get(link), `[name="next"]`)
	if got := other.get(left.location); left.location != stranger.get(link).location || !got.says("login.to-reconnect") {
		t.Errorf("signing in as somebody else: %s, %s", left.location, got.h1())
	}
	if got := other.post("/logout", "next", "https://evil.example/"); got.location != "/login" {
		t.Errorf("signing out leads to %s", got.location)
	}
	if got := helper.get(link); got.status != http.StatusOK || got.has(`[action^="/reconnect/"]`) || !strings.Contains(got.body, `href="/connections/`+id.String()+`"`) {
		t.Errorf("staff see a button that would be refused, or no way to the connection: %d", got.status)
	}
	next, err := url.Parse(stranger.get(link).location)
	if err != nil {
		t.Fatal(err)
	}
	if got := stranger.signIn(next.Query().Get("next")); !strings.HasSuffix(link, got) {
		t.Errorf("after signing in one is at %s", got)
	}
	for range 2 {
		if got := stranger.get(link); got.status != http.StatusOK || !strings.Contains(got.body, "CH168 Co., Ltd") {
			t.Fatalf("opening the link: %d %s", got.status, got.h1())
		}
	}
	got := stranger.post(link)
	if got.status != http.StatusSeeOther || !strings.HasPrefix(got.location, "http://127.0.0.1:1/") {
		t.Fatalf("following the link: %d %s", got.status, got.location)
	}
	if _, reconnects := dbtest.LastFlow(t, h.db); reconnects != id {
		t.Errorf("the attempt is to reconnect %s", reconnects)
	}
	for name, got := range map[string]answer{"followed again": stranger.post(link), "opened again": stranger.get(link), "opened by staff": helper.get(link)} {
		if got.status != http.StatusSeeOther || got.location != "/connections/"+id.String() {
			t.Errorf("the spent link %s: %d %s", name, got.status, got.location)
		}
	}
	if got := stranger.get("/connections/" + id.String()); !got.says("notice.link-over") || !strings.Contains(got.body, `action="/connections/`+id.String()+`/reconnect"`) {
		t.Errorf("where a spent link leads does not say why, or has no Reconnect: %s", got.h1())
	}
	if flows, _ := dbtest.Flows(t, h.db); flows != 1 {
		t.Errorf("a spent link began an attempt: %d", flows)
	}
	other.signIn("")
	if got := other.get(link); got.status != http.StatusNotFound || got.h1() != "This link is for another business" {
		t.Errorf("the spent link to another merchant: %d %s", got.status, got.h1())
	}
	if got := stranger.get("/reconnect/" + string(pg.NewSecret())); got.status != http.StatusNotFound {
		t.Errorf("a link that was never made: %d", got.status)
	}
	shown := helper.follow(helper.submit(helper.get("/connections/"+id.String()), `[action^="`+ask+`"]`, "how", "link"))
	if again := regexp.MustCompile(`http://[^<"\s]+/reconnect/[A-Za-z0-9_-]{43}`).FindString(shown.body); again == "" {
		t.Errorf("no link is shown: %d %s", shown.status, shown.h1())
	} else {
		h.noSecrets(map[string]string{"shown link": again[strings.LastIndex(again, "/")+1:], "mailed link": link[strings.LastIndex(link, "/")+1:]})
		h.clock.Advance(8 * 24 * time.Hour)
		stranger.signIn("")
		if got := stranger.get(again); got.location != "/connections/"+id.String() {
			t.Errorf("a link that is too old: %d %s", got.status, got.location)
		}
	}
}

func TestIncidentsAreOnEveryPage(t *testing.T) {
	h := newTestServer(t, withSandbox(sandbox.Options{}), withClock(dbtest.NewClock(time.Now().UTC())))
	sok := h.merchant("CH168 Shop")
	if strings.Contains(sok.get("/account").body, "banner") {
		t.Error("a banner without an incident")
	}
	dbtest.Incident(t, h.db, "caminvoice", "trouble")
	dbtest.Incident(t, h.db, "elecq", status.ReasonClientRejected)
	h.clock.Advance(incidentsAge)
	for who, one := range map[string]struct {
		page answer
		says int
	}{
		"a merchant who has nothing there":  {sok.get("/account"), 0},
		"the page of a provider in trouble": {sok.get("/connect/caminvoice"), 1},
		"the page of another one":           {sok.get("/connect/flexiti"), 0},
		"another merchant's home":           {h.merchant("Riverside Books").get("/"), 0},
		"support":                           {h.staff(audit.RoleSupport).get("/account"), 2},
	} {
		if n := one.page.document().Find("aside.banner p").Length(); n != one.says {
			t.Errorf("%s: %d incidents, want %d", who, n, one.says)
		}
	}
	dbtest.Connection(t, h.db, sok.merchant, "caminvoice", "KHUID00001234", "")
	page := sok.get("/account")
	if !page.says("layout.incident-merchant", "Provider", "CamInvoice") || page.document().Find("aside").Length() != 1 || page.document().Find("aside p").Length() != 1 {
		t.Errorf("an incident of one's own provider: %s", page.text("aside"))
	}
}

// TestNobodyIsSentToAProviderThatRefusesUs: pages say who must act as the API does.
func TestNobodyIsSentToAProviderThatRefusesUs(t *testing.T) {
	h := newTestServer(t)
	failing := db.Connection{ID: pg.NewID(), Provider: "caminvoice", Environment: "sandbox", FailingSince: h.db.Now().Add(-time.Minute)}
	if who := h.server.statusOf(t.Context(), failing).Party; who != status.PartyProvider {
		t.Errorf("before the incident %q must act", who)
	}
	dbtest.Incident(t, h.db, "caminvoice", status.ReasonClientRejected)
	h.clock.Advance(incidentsAge)
	if who := h.server.statusOf(t.Context(), failing).Party; who != status.PartyPlatform {
		t.Errorf("%q must act while our client is refused", who)
	}
}

// TestPagesDoNotQueueForIncidents: while the database does not answer, one page waits for it and the others go on.
func TestPagesDoNotQueueForIncidents(t *testing.T) {
	h := newTestServer(t)
	ctx := t.Context()
	tx, err := h.db.Pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(ctx, `LOCK TABLE providers IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(incidentsAge)
	hanging, stop := context.WithTimeout(ctx, 500*time.Millisecond)
	defer stop()
	var pages sync.WaitGroup
	for range 3 {
		pages.Go(func() { h.server.currentIncidents(hanging) })
	}
	dbtest.Wait(t, &pages, "the pages")
	patient, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	h.server.currentIncidents(patient)
	if patient.Err() != nil {
		t.Error("a page waited for the database after a read had failed")
	}
}

func TestAMerchantsNameThatSeveralHave(t *testing.T) {
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	for range 2 {
		if _, err := h.db.AddMerchant(t.Context(), audit.System, db.Merchant{Name: "Twice Here"}); err != nil {
			t.Fatal(err)
		}
	}
	for path, fields := range map[string][]string{
		"/admin/users": {"email", "sok@twice.example", "role", string(audit.RoleMerchant), "merchant", "Twice Here"},
		"/admin/keys":  {"name", "worker", "scope", db.ScopeTokens, "merchant", "Twice Here"},
	} {
		got := boss.post(path, fields...)
		if got.status != http.StatusUnprocessableEntity || !got.says("error.several") {
			t.Errorf("%s: %d, or it does not say why", path, got.status)
		}
	}
}
