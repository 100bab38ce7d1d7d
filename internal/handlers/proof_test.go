package handlers

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/status"
)

// unproved are the forms of staff that need no fresh proof, and why.
var unproved = map[string]string{
	"POST /login":                          "is a proof",
	"POST /login/second-factor":            "is a proof",
	"POST /login/passkey":                  "is a proof",
	"POST /passkey-challenges":             "is asked before a proof",
	"POST /logout":                         "protects",
	"POST /language":                       "changes the words",
	"POST /account":                        "a new password wants the present one; ending sessions protects",
	"POST /password":                       "of those who are not signed in",
	"POST /password/{secret}":              "of those who are not signed in",
	"POST /invitations/{secret}":           "of those who are not signed in",
	"POST /links/{secret}":                 "of a platform's merchant",
	postedRoute:                            "a provider's answer",
	"POST /connections/{id}/refresh":       "may be done again",
	"POST /connections/{id}/nickname":      "may be undone",
	"POST /connections/{id}/ask":           "sends a mail",
	"POST /connections/{id}/notes":         "changes no access",
	"POST /admin/bulk":                     "may be stopped",
	"POST /admin/bulk/{id}":                "stops, or begins what may be stopped",
	"POST /admin/mail":                     "sends mail again",
	"POST /admin/merchants":                "adds",
	"POST /admin/providers/{provider}":     "may be undone",
	"POST /admin/webhooks/deliveries/{id}": "sends again",
}

func TestEveryFormOfStaffWantsAFreshProofOrSaysWhyNot(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	own, boss := h.merchant("CH168 Shop"), h.staff(audit.RoleAdmin)
	fill := h.things(own, boss)
	h.clock.Advance(16 * time.Minute)
	for _, one := range h.server.routes() {
		method, pattern, _ := strings.Cut(one.pattern, " ")
		if method != http.MethodPost || one.roles&staff == 0 {
			continue
		}
		_, named := unproved[one.pattern]
		if named == wantsProof(one.pattern) {
			t.Errorf("%s wants a proof: %t, is named as not wanting one: %t", one.pattern, wantsProof(one.pattern), named)
		}
		if named {
			continue
		}
		if got := boss.post(fill.Replace(pattern), "do", "lock", "name", "typed"); got.status != http.StatusForbidden || !got.has("input[name=proof-password]") ||
			got.attribute("input[name=name]", "value") != "typed" {
			t.Errorf("%s without a fresh proof: %d %s", one.pattern, got.status, got.h1())
		}
	}
}

func TestAfterAProofNothingThatWasTypedIsLost(t *testing.T) {
	t.Parallel()
	for _, factor := range []bool{false, true} {
		h := newTestServer(t)
		boss := h.staff(audit.RoleAdmin)
		secret := ""
		if factor {
			secret, _ = boss.turnOnCodes()
		}
		h.clock.Advance(14 * time.Minute)
		if got := boss.post("/admin/keys", "name", "at once", "scope", "tokens:read"); got.status != http.StatusSeeOther {
			t.Fatalf("within 15 minutes: %d %s", got.status, got.h1())
		}
		h.clock.Advance(2 * time.Minute)
		asked := boss.post("/admin/keys", "name", "billing", "scope", "tokens:read", "scope", "connections:read")
		wantH1(t, asked, words("proof.title"))
		if asked.has("input[name=proof-code]") != factor {
			t.Errorf("with a second factor: %t, and a code is asked for: %t", factor, !factor)
		}
		wrong := boss.submit(asked, "input[name=proof-password]", "proof-password", "not it", "proof-code", "000000")
		if wrong.status != http.StatusForbidden || !wrong.has("#proof-password-error") {
			t.Errorf("a wrong password: %d %s", wrong.status, wrong.h1())
		}
		if factor {
			wrong = boss.submit(wrong, "input[name=proof-password]", "proof-password", password, "proof-code", "000000")
			if wrong.status != http.StatusForbidden || !wrong.has("#proof-code-error") {
				t.Errorf("a wrong code: %d %s", wrong.status, wrong.h1())
			}
		}
		filled := []string{"proof-password", password}
		if factor {
			filled = append(filled, "proof-code", boss.nextCode(secret))
		}
		made := boss.submit(wrong, "input[name=proof-password]", filled...)
		if page := boss.follow(made); !strings.Contains(page.body, "billing") {
			t.Fatalf("after the proof: %d %s", made.status, made.h1())
		}
		keys, err := h.db.APIKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, k := range keys {
			found = found || k.Name == "billing" && slices.Equal(k.Scopes, []string{"connections:read", "tokens:read"})
		}
		if !found {
			t.Error("the key is not as it was typed before the proof")
		}
		if n := h.events(status.UserProved); n != 1 {
			t.Errorf("%d proofs are noted, want 1", n)
		}
		if got := boss.post("/admin/keys", "name", "another", "scope", "tokens:read"); got.status != http.StatusSeeOther {
			t.Errorf("after the proof another is wanted at once: %d", got.status)
		}
	}
}

func TestMerchantsDisconnectWithoutAProofAndStaffWithOne(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	own, boss := h.merchant("CH168 Shop"), h.staff(audit.RoleAdmin)
	first := dbtest.Connection(h.t, h.db, own.merchant, "caminvoice", "KHUID00001234", "CH168 Co., Ltd")
	second := dbtest.Connection(h.t, h.db, own.merchant, "caminvoice", "KHUID00001235", "CH168 Co., Ltd")
	h.clock.Advance(time.Hour)
	if got := own.post("/connections/" + first.String() + "/disconnect"); got.status != http.StatusSeeOther {
		t.Errorf("a merchant: %d %s", got.status, got.h1())
	}
	asked := boss.post("/connections/" + second.String() + "/disconnect")
	wantH1(t, asked, words("proof.title"))
	if n := h.events(status.ConnectionDisconnected); n != 1 {
		t.Errorf("%d disconnections, want 1", n)
	}
	if got := boss.submit(asked, "input[name=proof-password]", "proof-password", password); got.location != "/connections/"+second.String() {
		t.Errorf("an admin after the proof: %d %s", got.status, got.location)
	}
}

func TestANewPasswordIsNoProofOfTheSecondFactor(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss := h.staff(audit.RoleAdmin)
	boss.turnOnCodes()
	h.clock.Advance(time.Hour)
	boss.post("/account", "do", "password", "current", password, "password", "another horse battery")
	if got := boss.post("/admin/keys", "name", "billing", "scope", "tokens:read"); got.status != http.StatusForbidden {
		t.Errorf("after changing the password a stale proof is fresh: %d %s", got.status, got.location)
	}
}
