package handlers

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// required has staff set up a second factor before anything else.
func required() serverOption {
	return withOptions(func(o *Options, _ *jobs.Options) { o.RequireFactor = true })
}

var (
	secretShown   = regexp.MustCompile(`(?:[A-Z2-7]{4} ){7}[A-Z2-7]{4}`)
	recoveryShown = regexp.MustCompile(`[A-Z2-7]{4}(?:-[A-Z2-7]{4}){3}`)
)

// turnOnCodes sets up one-time codes, and returns the app's secret and the recovery codes.
func (p *person) turnOnCodes() (secret string, recovery []string) {
	p.t.Helper()
	secret = strings.ReplaceAll(secretShown.FindString(p.get("/account/second-factor").body), " ", "")
	if secret == "" {
		p.t.Fatal("the page shows no secret")
	}
	got := p.follow(p.post("/account/second-factor", "do", "on", "code", p.code(secret)))
	return secret, slices.Compact(recoveryShown.FindAllString(got.body, -1))
}

// code returns what an app shows at the server's present time.
func (p *person) code(secret string) string {
	p.t.Helper()
	code, err := totp.GenerateCode(secret, p.db.Now())
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

// nextCode waits for another code than the last, and returns it.
func (p *person) nextCode(secret string) string {
	p.clock.Advance(30 * time.Second)
	return p.code(secret)
}

func TestAPasswordAloneOpensNothingOnceThereIsASecondFactor(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	h.startJobs()
	boss := h.staff(audit.RoleAdmin)
	elsewhere := h.visitor(boss.email)
	elsewhere.signIn("")
	secret, recovery := boss.turnOnCodes()
	if len(recovery) != 10 {
		t.Fatalf("%d recovery codes are shown, want 10", len(recovery))
	}
	if got := boss.get("/admin"); got.status != http.StatusOK {
		t.Errorf("the session that turned it on: %d", got.status)
	}
	if got := elsewhere.get("/admin"); letterOf(got) != "L" {
		t.Errorf("a session of before is still open: %d %s", got.status, got.location)
	}
	h.mailTo(boss.email, "A second factor was set up")

	thief := h.visitor(boss.email)
	if to := thief.signIn("/admin/keys"); to != "/admin/keys" {
		t.Fatalf("sign-in leads to %s", to)
	}
	if got := thief.get("/admin/keys"); got.location != "/login/second-factor?next=%2Fadmin%2Fkeys" {
		t.Fatalf("a half session is led to %q (%d)", got.location, got.status)
	}
	if got := thief.get("/account/second-factor"); got.location != "/login/second-factor" {
		t.Errorf("a half session may change the second factor: %d %s", got.status, got.location)
	}
	if got := thief.post("/account/second-factor", "do", "off"); got.location != "/login/second-factor" {
		t.Errorf("a half session may turn the second factor off: %d %s", got.status, got.location)
	}
	if before := h.events(status.UserSignedIn); before != 2 {
		t.Errorf("%d sign-ins are noted, want 2: half of one is none", before)
	}
	if got := thief.post("/login/second-factor", "code", "000000"); got.status != http.StatusUnauthorized || !got.has("#code-error") {
		t.Errorf("a wrong code: %d %s", got.status, got.h1())
	}
	if n := h.events(status.UserFactorFailed); n != 1 {
		t.Errorf("%d failures are noted, want 1", n)
	}
	if got := thief.post("/login/second-factor", "code", boss.code(secret)); got.status != http.StatusUnauthorized {
		t.Errorf("the code that turned it on is taken again: %d", got.status)
	}
	code := boss.nextCode(secret)
	if got := thief.post("/login/second-factor", "code", " "+code[:3]+" "+code[3:], "next", "/admin/keys"); got.location != "/admin/keys" {
		t.Fatalf("the right code leads to %q (%d)", got.location, got.status)
	}
	if got := thief.get("/admin/keys"); got.status != http.StatusOK {
		t.Errorf("after the code: %d %s", got.status, got.location)
	}

	another := h.visitor(boss.email)
	another.signIn("")
	if got := another.post("/login/second-factor", "recovery", strings.ToLower(recovery[3])); got.location != "/admin" {
		t.Fatalf("a recovery code leads to %q (%d)", got.location, got.status)
	}
	h.mailTo(boss.email, "One of your recovery codes was used")
	if got := boss.get("/account/second-factor"); !got.says("factor.left", "Count", 9) {
		t.Error("the page does not say how many recovery codes are left")
	}
	again := h.visitor(boss.email)
	again.signIn("")
	if got := again.post("/login/second-factor", "recovery", recovery[3]); got.status != http.StatusUnauthorized {
		t.Errorf("a recovery code is taken twice: %d", got.status)
	}
	h.noSecrets(map[string]string{"secret of the app": secret, "recovery code": recovery[0], "bare recovery code": strings.ReplaceAll(recovery[0], "-", "")})
}

// TestAHalfSessionReachesNothing walks every route with both kinds of half session.
func TestAHalfSessionReachesNothing(t *testing.T) {
	t.Parallel()
	h := newTestServer(t, required())
	own := h.merchant("CH168 Shop")
	fresh := h.staff(audit.RoleSupport) // must set one up
	boss := h.staff(audit.RoleAdmin)
	boss.turnOnCodes()
	fill := h.things(own, boss)
	halves := map[string]*person{"/account/second-factor": fresh, "/login/second-factor": h.visitor(boss.email)}
	halves["/login/second-factor"].signIn("")
	open := []string{"GET /login", "POST /login", "POST /language", ssoRoute, ssoCallbackRoute, "POST /login/passkey", "POST /passkey-challenges", "POST /logout", "GET /login/second-factor", "POST /login/second-factor", "GET /account/second-factor", "POST /account/second-factor"}
	for _, one := range h.server.routes() {
		method, pattern, _ := strings.Cut(one.pattern, " ")
		if slices.Contains(open, one.pattern) {
			continue
		}
		path := fill.Replace(pattern)
		for page, p := range halves {
			got := p.get
			if method == http.MethodPost {
				got = func(path string) answer { return p.post(path, "do", "on") }
			}
			if a := got(path); a.status != http.StatusSeeOther || a.location != page && !strings.HasPrefix(a.location, page+"?next=") {
				t.Errorf("%s by half: %d %q, want %s", one.pattern, a.status, a.location, page)
			}
		}
	}
	for page, p := range halves {
		if a := p.get("/login"); a.location != page {
			t.Errorf("the sign-in page by half: %d %s", a.status, a.location)
		}
		if a := p.get(page); a.status != http.StatusOK || a.has("nav.tabs") {
			t.Errorf("%s: %d", page, a.status)
		}
		if a := p.get("/api/v1/connections"); a.status != http.StatusUnauthorized {
			t.Errorf("the API without a key: %d", a.status)
		}
		if a := p.post("/logout"); a.location != "/login" {
			t.Errorf("sign out by half: %d %s", a.status, a.location)
		}
		if a := p.get("/admin"); letterOf(a) != "L" {
			t.Errorf("after signing out: %d %s", a.status, a.location)
		}
	}
	if a := own.get("/"); a.status != http.StatusOK {
		t.Errorf("a merchant is asked for a second factor: %d %s", a.status, a.location)
	}
}

func TestStaffMustSetUpASecondFactorBeforeAnythingElse(t *testing.T) {
	t.Parallel()
	h := newTestServer(t, required())
	boss := h.staff(audit.RoleAdmin)
	got := boss.get("/admin/users?role=support")
	if got.location != "/account/second-factor?next=%2Fadmin%2Fusers%3Frole%3Dsupport" {
		t.Fatalf("led to %q (%d)", got.location, got.status)
	}
	page := boss.get(got.location)
	if !page.says("factor.required") || !page.has("svg.qr path") || !page.has("input[name=code][autocomplete=one-time-code]") {
		t.Errorf("the page does not have it set up: %s", page.h1())
	}
	if a := boss.post("/account/second-factor", "do", "on", "code", "123"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a wrong code turns it on: %d", a.status)
	}
	secret := strings.ReplaceAll(secretShown.FindString(page.body), " ", "")
	done := boss.follow(boss.post("/account/second-factor", "do", "on", "code", boss.code(secret), "next", "/admin/users?role=support"))
	if !done.has(`a.primary[href="/admin/users?role=support"]`) {
		t.Errorf("after setting it up nothing leads on: %d %s", done.status, done.h1())
	}
	if a := boss.get("/admin/users"); a.status != http.StatusOK || !a.says("factor.has") {
		t.Errorf("after setting it up: %d %s", a.status, a.location)
	}
	// Turning it off leads back to where it is set up, with another secret.
	boss.post("/account/second-factor", "do", "off")
	if a := boss.get("/admin"); !strings.HasPrefix(a.location, "/account/second-factor") {
		t.Errorf("after turning it off: %d %s", a.status, a.location)
	}
	if n := h.events(status.UserFactorOff); n != 1 {
		t.Errorf("%d events of turning off", n)
	}
	if strings.Contains(boss.get("/account/second-factor").body, secretShown.FindString(page.body)) {
		t.Error("the secret that was turned off is offered again")
	}
}

func TestAnotherSessionsSecretTurnsNothingOn(t *testing.T) {
	t.Parallel()
	h := newTestServer(t, required())
	boss := h.staff(audit.RoleAdmin)
	h.clock.Advance(time.Second)
	thief := h.visitor(boss.email)
	thief.signIn("")
	secret := strings.ReplaceAll(secretShown.FindString(thief.get("/account/second-factor").body), " ", "")
	if a := boss.post("/account/second-factor", "do", "on", "code", boss.code(secret)); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a secret that another session knows is turned on: %d", a.status)
	}
}

// TestAProofGivesTheSessionAnotherSecret makes half sessions whole and proves anew, in each way: the cookie of before opens nothing afterwards
// (ASVS 5.0, 7.2.4), and the session is the same one.
func TestAProofGivesTheSessionAnotherSecret(t *testing.T) {
	t.Parallel()
	h := newPasskeyServer(t, required())
	boss, plain := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport)
	var secret string
	var recovery []string
	var key *authenticator
	made := 0
	makeKey := func() []string {
		made++
		return []string{"name", fmt.Sprint("key ", made), "scope", "tokens:read"}
	}
	half := func(t *testing.T) *person {
		p := h.visitor(boss.email)
		p.signIn("")
		return p
	}
	stale := func(p *person) answer {
		h.clock.Advance(16 * time.Minute)
		page := p.post("/admin/keys", makeKey()...)
		wantH1(t, page, words("proof.title"))
		return page
	}
	for _, one := range []struct {
		name   string
		begin  func(t *testing.T) *person
		prove  func(p *person) answer
		status int
	}{
		{"the first second factor, of codes", func(*testing.T) *person { return boss }, func(p *person) answer {
			secret, recovery = p.turnOnCodes()
			return p.get("/admin")
		}, http.StatusOK},
		{"the first second factor, a passkey", func(*testing.T) *person { return plain }, func(p *person) answer {
			_, got := p.addPasskey(h, "Laptop")
			return got
		}, http.StatusSeeOther},
		{"a passkey beside codes, after a proof", func(*testing.T) *person { return boss }, func(p *person) answer {
			h.clock.Advance(16 * time.Minute)
			key = newAuthenticator(h)
			asked := p.post("/account/second-factor", "do", "add-passkey", "name", "Phone", "passkey", key.create(p.challenge("add")))
			return p.submit(asked, "input[name=proof-password]", "proof-password", password, "proof-code", p.nextCode(secret))
		}, http.StatusSeeOther},
		{"a code at sign-in", half, func(p *person) answer {
			return p.post("/login/second-factor", "code", p.nextCode(secret))
		}, http.StatusSeeOther},
		{"a recovery code at sign-in", half, func(p *person) answer {
			return p.post("/login/second-factor", "recovery", recovery[0])
		}, http.StatusSeeOther},
		{"a passkey at sign-in", half, func(p *person) answer {
			return p.post("/login/second-factor", "passkey", key.get(p.challenge("proof")))
		}, http.StatusSeeOther},
		{"a fresh proof by password and code", func(*testing.T) *person { return boss }, func(p *person) answer {
			return p.submit(stale(p), "input[name=proof-password]", "proof-password", password, "proof-code", p.nextCode(secret))
		}, http.StatusSeeOther},
		{"a fresh proof by password and recovery code", func(*testing.T) *person { return boss }, func(p *person) answer {
			return p.submit(stale(p), "input[name=proof-password]", "proof-password", password, "proof-code", recovery[1])
		}, http.StatusSeeOther},
		{"a fresh proof by passkey", func(*testing.T) *person { return boss }, func(p *person) answer {
			return p.submit(stale(p), "input[name=proof-passkey]", "proof-passkey", key.get(p.challenge("proof")))
		}, http.StatusSeeOther},
	} {
		t.Run(one.name, func(t *testing.T) {
			p := one.begin(t)
			before := p.cookie("session")
			user, err := h.accounts.UserByEmail(t.Context(), p.email)
			if err != nil {
				t.Fatal(err)
			}
			was, err := h.accounts.Sessions(t.Context(), user.ID)
			if err != nil {
				t.Fatal(err)
			}
			if got := one.prove(p); got.status != one.status {
				t.Fatalf("%d %s", got.status, got.h1())
			}
			if p.cookie("session") == before {
				t.Error("the cookie is the same")
			}
			if got := p.get("/admin"); got.status != http.StatusOK {
				t.Errorf("the new cookie: %d %s", got.status, got.location)
			}
			old := h.visitor(p.email)
			old.setCookie("session", before)
			if got := old.get("/admin"); !strings.HasPrefix(got.location, "/login?") {
				t.Errorf("the cookie of before opens %d %s", got.status, got.location)
			}
			is, err := h.accounts.Sessions(t.Context(), user.ID)
			if err != nil || len(is) != len(was) {
				t.Errorf("of %d sessions there are %d now, %v", len(was), len(is), err)
			}
		})
	}
	t.Run("a fresh proof by password alone", func(t *testing.T) {
		h := newTestServer(t)
		boss := h.staff(audit.RoleAdmin)
		before := boss.cookie("session")
		h.clock.Advance(16 * time.Minute)
		boss.submit(boss.post("/admin/keys", makeKey()...), "input[name=proof-password]", "proof-password", password)
		old := h.visitor(boss.email)
		old.setCookie("session", before)
		if got := old.get("/admin"); !strings.HasPrefix(got.location, "/login?") || boss.get("/admin").status != http.StatusOK {
			t.Errorf("the cookie of before opens %d %s", got.status, got.location)
		}
	})
}

func TestOneCodeIsTakenOnceByManyAtOnce(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	secret, _ := boss.turnOnCodes()
	h.clock.Advance(30 * time.Second)
	user, err := h.accounts.UserByEmail(t.Context(), boss.email)
	if err != nil {
		t.Fatal(err)
	}
	code := boss.code(secret)
	results := make(chan error, 8)
	for range 8 {
		session := pg.NewSecret()
		if err := h.accounts.AddSession(t.Context(), session, user, "", ""); err != nil {
			t.Fatal(err)
		}
		go func() {
			results <- h.accounts.Prove(context.WithoutCancel(t.Context()), audit.System, user, session.Hash(), pg.NewSecret(), code, nil)
		}()
	}
	taken := 0
	for range 8 {
		if err := dbtest.Receive(t, results, "a proof"); err == nil {
			taken++
		}
	}
	if taken != 1 {
		t.Errorf("one code was taken %d times", taken)
	}
}

func TestCodesOfOneStepBeforeAndAfterAreTaken(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		steps int
		taken bool
	}{{-2, false}, {-1, true}, {0, true}, {1, true}, {2, false}} {
		h := newTestServer(t)
		boss := h.staff(audit.RoleSupport)
		secret, _ := boss.turnOnCodes()
		h.clock.Advance(5 * time.Minute)
		boss.signIn("")
		code, err := totp.GenerateCode(secret, h.db.Now().Add(time.Duration(one.steps)*30*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if got := boss.post("/login/second-factor", "code", code); (got.location == "/admin") != one.taken {
			t.Errorf("the code of %d steps from now: %d %s", one.steps, got.status, got.location)
		}
	}
}

func TestWrongCodesAreThrottled(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	secret, _ := boss.turnOnCodes()
	thief := h.visitor(boss.email)
	tried, began := 0, h.db.Now()
	for range 40 {
		thief.signIn("") // also with the right password before each
		if got := thief.post("/login/second-factor", "code", "000000"); got.status == http.StatusUnauthorized {
			tried++
		} else if got.status != http.StatusTooManyRequests || got.retryAfter == "" {
			t.Fatalf("a wrong code: %d", got.status)
		}
	}
	if hour := h.db.Now().Sub(began); hour > time.Hour || tried > 14 {
		t.Errorf("%d codes were tried in %s", tried, hour)
	}
	if got := thief.post("/login/second-factor", "code", boss.code(secret)); got.status != http.StatusTooManyRequests {
		t.Errorf("the right code during the wait: %d", got.status)
	}
	h.clock.Advance(20 * time.Minute)
	thief.signIn("")
	if got := thief.post("/login/second-factor", "code", boss.code(secret)); got.location != "/admin" {
		t.Errorf("the right code after the wait: %d %s", got.status, got.location)
	}
}

func TestAHalfSessionEnds(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	secret, _ := boss.turnOnCodes()
	late := h.visitor(boss.email)
	late.signIn("")
	h.clock.Advance(16 * time.Minute)
	if got := late.post("/login/second-factor", "code", boss.code(secret)); letterOf(got) != "L" {
		t.Errorf("a half session of 16 minutes: %d %s", got.status, got.location)
	}
}

func TestAnotherPasswordOpensNothingWithoutTheSecondFactor(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	boss.turnOnCodes()
	user, err := h.accounts.UserByEmail(t.Context(), boss.email)
	if err != nil {
		t.Fatal(err)
	}
	link, _, err := h.accounts.AddLink(t.Context(), audit.System, account.LinkPassword, user.ID, pg.ID{})
	if err != nil {
		t.Fatal(err)
	}
	thief := h.visitor("")
	thief.post("/password/"+string(link), "password", "another horse battery")
	if got := thief.get("/admin"); !strings.HasPrefix(got.location, "/login/second-factor") {
		t.Errorf("a link for a password: %d %s", got.status, got.location)
	}
}

func TestAnAdminResetsASecondFactor(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	h.startJobs()
	boss, support := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport)
	support.turnOnCodes()
	user, err := h.accounts.UserByEmail(t.Context(), support.email)
	if err != nil {
		t.Fatal(err)
	}
	if got := support.post("/admin/users/"+user.ID.String(), "do", "reset-second-factor"); got.status != http.StatusForbidden {
		t.Errorf("support resets one: %d", got.status)
	}
	got := boss.post("/admin/users/"+user.ID.String(), "do", "reset-second-factor")
	if page := boss.get(got.location); !page.says("notice.second-factor-reset", "Name", support.email) || page.says("factor.has") {
		t.Errorf("after the reset: %d %s", got.status, got.location)
	}
	h.mailTo(support.email, "turned off or reset")
	if n := h.events(status.UserFactorReset); n != 1 {
		t.Errorf("%d events", n)
	}
	if got := support.get("/admin"); letterOf(got) != "L" {
		t.Errorf("their session goes on: %d", got.status)
	}
	if to := support.signIn(""); to != "/admin" || support.get("/admin").status != http.StatusOK {
		t.Error("they cannot sign in with the password alone")
	}
}

// TestRowsDoNotMakeAHalfSessionWhole has somebody who can write rows, and knows a password, but has no keyset.
func TestRowsDoNotMakeAHalfSessionWhole(t *testing.T) {
	t.Parallel()
	for name, statements := range map[string][]string{
		"the session is said to be whole":             {`UPDATE sessions SET half = false`},
		"the user is said to have no second factor":   {`UPDATE users SET second_factor_at = NULL`},
		"another user's second factor is put there":   {`UPDATE second_factors SET sealed = (SELECT sealed FROM second_factors WHERE user_id <> $1 LIMIT 1) WHERE user_id = $1`},
		"the second factor is deleted":                {`DELETE FROM second_factors WHERE user_id = $1`},
		"a fresh proof is written beside the session": {`UPDATE sessions SET proved_at = now() + interval '1 day'`},
	} {
		h := newTestServer(t)
		boss, other := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport)
		boss.turnOnCodes()
		secret, _ := other.turnOnCodes()
		user, err := h.accounts.UserByEmail(t.Context(), boss.email)
		if err != nil {
			t.Fatal(err)
		}
		thief := h.visitor(boss.email)
		thief.signIn("")
		for _, sql := range statements {
			args := []any{user.ID}
			if !strings.Contains(sql, "$1") {
				args = nil
			}
			if _, err := h.db.Pool.Exec(t.Context(), sql, args...); err != nil {
				t.Fatal(err)
			}
		}
		thief.post("/login/second-factor", "code", other.nextCode(secret))
		if got := thief.get("/admin"); got.status == http.StatusOK {
			t.Errorf("%s: a half session is whole", name)
		}
		thief.newBrowser()
		thief.post("/login", "email", boss.email, "password", password)
		if got := thief.get("/admin"); got.status == http.StatusOK {
			t.Errorf("%s: a password alone signs in", name)
		}
	}
}

func TestNewRecoveryCodesReplaceTheOldOnes(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	_, before := boss.turnOnCodes()
	made := boss.follow(boss.post("/account/second-factor", "do", "recovery"))
	after := slices.Compact(recoveryShown.FindAllString(made.body, -1))
	if len(after) != 10 || slices.Contains(after, before[0]) {
		t.Fatalf("%d new codes", len(after))
	}
	for code, want := range map[string]int{before[1]: http.StatusUnauthorized, after[1]: http.StatusSeeOther} {
		again := h.visitor(boss.email)
		again.signIn("")
		if got := again.post("/login/second-factor", "recovery", code); got.status != want {
			t.Errorf("got %d, want %d", got.status, want)
		}
	}
}
