package handlers

import (
	"net/http"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
)

// TestInvitingFromAMerchantsPage sends the very form that the page shows.
func TestInvitingFromAMerchantsPage(t *testing.T) {
	t.Parallel()
	const invite = `#email`
	h := newTestServer(t)
	boss, sok := h.staff(audit.RoleAdmin), h.merchant("CH168 Shop")
	at := "/admin/merchants/" + sok.merchant.String()

	wrong := boss.submit(boss.get(at), invite, "email", "dara at ch168", "name", "Dara <3")
	if wrong.status != http.StatusUnprocessableEntity || wrong.h1() != "CH168 Shop" || !wrong.has("#errors") {
		t.Fatalf("no address: %d %s", wrong.status, wrong.h1())
	}
	for _, kept := range []string{`value="dara at ch168"`, `value="Dara &lt;3"`, `value="km ` + at + `#typed"`} {
		if !strings.Contains(wrong.body, kept) {
			t.Errorf("the form that comes back lacks %s", kept)
		}
	}
	if got := boss.submit(wrong, invite, "email", "dara@ch168.example"); got.status != http.StatusSeeOther || got.location != at {
		t.Fatalf("put right: %d %s", got.status, got.location)
	}
	dara, err := h.accounts.UserByEmail(t.Context(), "dara@ch168.example")
	if err != nil || dara.MerchantID != sok.merchant || dara.Name != "Dara <3" {
		t.Errorf("invited: %+v, %v", dara, err)
	}
	if got := boss.submit(boss.get(at), invite, "email", "dara@ch168.example"); got.status != http.StatusUnprocessableEntity || got.h1() != "CH168 Shop" {
		t.Errorf("invited twice: %d %s", got.status, got.h1())
	}
	for name, fields := range map[string][]string{
		"no such merchant": {"merchant", pg.NewID().String()}, "no id": {"merchant", "CH168 Shop"},
	} {
		if got := boss.post("/admin/users", append(fields, "from", "merchant", "role", "merchant", "email", "x@ch168.example")...); got.status != http.StatusNotFound {
			t.Errorf("%s: %d", name, got.status)
		}
	}
}

func TestInvitingFromAMerchantsPageWithoutMail(t *testing.T) {
	t.Parallel()
	h := newTestServer(t, withOptions(func(_ *Options, o *jobs.Options) { o.Outbox = false }))
	boss, sok := h.staff(audit.RoleAdmin), h.merchant("CH168 Shop")
	got := boss.follow(boss.submit(boss.get("/admin/merchants/"+sok.merchant.String()), `#email`, "email", "dara@ch168.example"))
	if got.status != http.StatusOK || got.h1() != "CH168 Shop" || !strings.Contains(got.body, "/invitations/") {
		t.Errorf("%d %s, or no link", got.status, got.h1())
	}
}

func TestWhichMerchantIsMeant(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	mekong, err := h.db.AddMerchant(t.Context(), audit.System, db.Merchant{Name: "Mekong Trading", ExternalID: "mekong-7"})
	if err != nil {
		t.Fatal(err)
	}
	odd, err := h.db.AddMerchant(t.Context(), audit.System, db.Merchant{Name: "Odd", ExternalID: pg.NewID().String()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.db.AddMerchant(t.Context(), audit.System, db.Merchant{Name: "Liar", ExternalID: "Odd"}); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]pg.ID{"mekong-7": mekong.ID, "mekong trading": mekong.ID, mekong.ID.String(): mekong.ID, odd.ExternalID: odd.ID} {
		email := "u" + pg.NewID().String() + "@mekong.example"
		if got := boss.submit(boss.get("/admin/users"), `#merchant`, "email", email, "role", "merchant", "merchant", typed); got.status != http.StatusSeeOther || got.location != "/admin/users" {
			t.Errorf("%q: %d %s", typed, got.status, got.location)
		}
		if u, err := h.accounts.UserByEmail(t.Context(), email); err != nil || u.MerchantID != want {
			t.Errorf("%q is merchant %s, want %s, %v", typed, u.MerchantID, want, err)
		}
	}
	for name, c := range map[string]struct{ role, merchant, says string }{
		"one's name, another's id":  {"merchant", "Odd", "Several have this name"},
		"a merchant's for support":  {"support", "mekong-7", "Only the role Merchant"},
		"a merchant's of no such":   {"merchant", "mekong-8", "No merchant has this name"},
		"a merchant's without one":  {"merchant", "", "Fill in"},
		"an admin with no merchant": {"admin", "nobody", "Only the role Merchant"},
	} {
		got := boss.post("/admin/users", "email", "new@mekong.example", "role", c.role, "merchant", c.merchant)
		if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.body, c.says) || !got.has("#merchant-error") {
			t.Errorf("%s: %d, or it does not say %q", name, got.status, c.says)
		}
	}
	if got := boss.get("/admin/users"); strings.Contains(got.body, "new@mekong.example") {
		t.Error("somebody was added all the same")
	}
}

// TestFormsAboutPeopleComeBack: where one was sent from decides where one goes on, and nothing else does.
func TestFormsAboutPeopleComeBack(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss, sok := h.staff(audit.RoleAdmin), h.merchant("CH168 Shop")
	const end = `[value="end-sessions"]`
	own := "/admin/merchants/" + sok.merchant.String()
	for page, want := range map[string]string{own: own, "/admin/users?q=%40ch168&lang=en": "/admin/users?q=%40ch168"} {
		if got := boss.submit(boss.get(page), end); got.status != http.StatusSeeOther || got.location != want {
			t.Errorf("from %s: %d %s", page, got.status, got.location)
		}
		if got := boss.get(want); !strings.Contains(got.body, sok.email+" is signed out everywhere.") || got.says("notice.sessions-ended") {
			t.Errorf("from %s: the notice does not say who is signed out", page)
		}
		if got := sok.get("/"); got.status != http.StatusSeeOther {
			t.Errorf("from %s: still signed in: %d", page, got.status)
		}
		sok.signIn("")
	}
	user, err := h.accounts.UserByEmail(t.Context(), sok.email)
	if err != nil {
		t.Fatal(err)
	}
	if got := boss.post("/admin/users/"+user.ID.String(), "do", "unlock", "from", "https://evil.example/"); got.location != "/admin/users" {
		t.Errorf("from elsewhere leads to %s", got.location)
	}
	if got := boss.submit(boss.get("/admin/users?q=admin@"), end); got.status != http.StatusSeeOther {
		t.Fatalf("one's own: %d", got.status)
	}
	if got := boss.get("/admin/users"); got.status != http.StatusOK || !got.says("notice.sessions-ended") {
		t.Errorf("ending one's own sessions ends this one, or is not said: %d", got.status)
	}
}

// TestSupportFindsWhatItMayRead: the menu lists every page that is open to support, and none offers what would be refused.
func TestSupportFindsWhatItMayRead(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	helper, sok := h.staff(audit.RoleSupport), h.merchant("CH168 Shop")
	for _, page := range []string{"/admin/users", "/admin/keys"} {
		if !strings.Contains(helper.get("/admin").body, `<a href="`+page+`"`) {
			t.Errorf("support's menu lacks %s", page)
		}
		if got := helper.get(page); got.status != http.StatusOK || got.has(`form[method="post"][action^="/admin/"]`) {
			t.Errorf("%s as support: %d, or it has a form that is refused", page, got.status)
		}
		if strings.Contains(sok.get("/account").body, `href="`+page+`"`) {
			t.Errorf("a merchant's menu has %s", page)
		}
	}
}
