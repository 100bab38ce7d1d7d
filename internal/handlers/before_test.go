package handlers

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/sandbox"
)

func TestANameOfAKeyIsTakenOnce(t *testing.T) {
	t.Parallel()
	s := newTestServer(t, withSandbox(sandbox.Options{}))
	admin := s.staff(audit.RoleAdmin)
	page := admin.wants("/admin/keys")
	if strings.Count(page.body, " checked") != 1 || !strings.Contains(page.body, `value="connections:read" id="scope" checked`) {
		t.Error("something wider than looking connections up is chosen beforehand")
	}
	fields := []string{"name", "Invoice worker", "scope", db.ScopeTokens}
	var clicks sync.WaitGroup
	var answers [2]answer
	for i := range answers {
		clicks.Go(func() { answers[i] = admin.post("/admin/keys", fields...) })
	}
	dbtest.Wait(t, &clicks, "both clicks")
	made, refused := answers[0], answers[1]
	if made.status != http.StatusSeeOther {
		made, refused = refused, made
	}
	if made.status != http.StatusSeeOther || refused.status != http.StatusUnprocessableEntity || !refused.says("error.name.key-taken") {
		t.Fatalf("two clicks: %d and %d", made.status, refused.status)
	}
	if !refused.has(`[value="Invoice worker"]`) || !refused.has(`[value="tokens:read"][checked]`) {
		t.Error("what was typed is lost")
	}
	if got := admin.post("/admin/keys", "name", "invoice WORKER", "scope", db.ScopeTokens); got.status != http.StatusUnprocessableEntity {
		t.Errorf("the same name in other letters: %d", got.status)
	}
	keys, err := s.db.APIKeys(t.Context())
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	if _, _, err := s.db.AddAPIKey(t.Context(), audit.System, db.APIKey{Name: "Invoice worker", Scopes: db.Scopes()}); err != nil {
		t.Errorf("the next key on the command line: %v", err)
	}

	revoke := "/admin/keys/" + keys[0].ID.String() + "/revoke"
	page = admin.wants("/admin/keys", words("admin_keys.revoke-what", "Name", "Invoice worker"), words("admin_keys.revoke-unused"), words("admin_keys.revoke-final"))
	folded, _, _ := strings.Cut(page.body, `action="`+revoke+`"`)
	if strings.LastIndex(folded, "<details") < strings.LastIndex(folded, "</details>") {
		t.Error("Revoke is not folded away")
	}
	if got := admin.post(revoke); got.status != http.StatusSeeOther {
		t.Fatalf("revoke: %d", got.status)
	}
	admin.wants("/admin/keys", words("notice.revoked", "Name", "Invoice worker"))
}

func TestAShorterRetentionIsAskedAbout(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	h.clock.Set(time.Date(2023, time.November, 22, 12, 0, 0, 0, time.UTC))
	dbtest.Event(t, h.db, "merchant.added", h.db.Now()) // makes its month
	boss := h.staff(audit.RoleAdmin)
	for _, at := range []string{"2023-05-03", "2023-07-31", "2023-08-01"} {
		noon, err := time.Parse(time.RFC3339, at+"T12:00:00Z")
		if err != nil {
			t.Fatal(err)
		}
		dbtest.Event(t, h.db, "merchant.added", noon)
	}
	boss.wants("/admin/events", words("admin_events.kept-all"), words("admin_events.oldest", "Date", "3 May 2023"))
	asked := boss.post("/admin/events", "months", "3")
	if asked.status != http.StatusOK || asked.h1() != "Delete all events before 1 August 2023?" {
		t.Fatalf("three months: %d %s", asked.status, asked.h1())
	}
	for _, words := range []string{"2 events, the oldest of 3 May 2023,", "/admin/events.csv?zone=UTC&amp;to=2023-07-31"} {
		if !strings.Contains(asked.body, words) {
			t.Errorf("the question lacks %q", words)
		}
	}
	if months, err := h.db.Audit.Retention(t.Context()); err != nil || months != 0 {
		t.Fatalf("set without an answer: %d, %v", months, err)
	}
	if got := boss.submit(asked, `[name="confirm"][value="yes"]`); got.status != http.StatusSeeOther {
		t.Fatalf("confirmed: %d", got.status)
	}
	boss.wants("/admin/events", words("notice.kept-since", "Months", "3", "Date", "1 August 2023"), words("admin_events.kept-since", "Date", "1 August 2023"))
	if got := boss.post("/admin/events", "months", "2"); got.status != http.StatusBadRequest {
		t.Errorf("two months, of which the database keeps three: %d", got.status)
	}
	if dropped, err := h.db.Audit.DropMonths(t.Context(), 3); err != nil || dropped == 0 {
		t.Fatalf("upkeep dropped %d months, %v", dropped, err)
	}
	if oldest, err := h.db.Audit.Oldest(t.Context()); err != nil || !oldest.Equal(time.Date(2023, time.August, 1, 12, 0, 0, 0, time.UTC)) {
		t.Errorf("the oldest event is now of %v, %v", oldest, err)
	}
	if got := boss.post("/admin/events", "months", "4"); got.status != http.StatusSeeOther {
		t.Errorf("longer, where nothing goes: %d", got.status)
	}
}

func TestWhatAChangeDoesIsSaidFirst(t *testing.T) {
	t.Parallel()
	h := newTestServer(t)
	boss, helper := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport)
	for _, step := range []struct{ do, before, button, after string }{
		{"role", " may then do everything:", "Make " + helper.email + " an admin", helper.email + " is an admin now, and must sign in again."},
		{"role", " may then look up everything and refresh", "Make " + helper.email + " support", helper.email + " is support now, and must sign in again."},
		{"lock", " is signed out everywhere at once, links", "Lock " + helper.email, helper.email + " is locked and signed out everywhere."},
		{"unlock", " can sign in again at once", "Unlock " + helper.email, helper.email + " is unlocked."},
	} {
		page := boss.wants("/admin/users", helper.email+step.before)
		start := strings.Index(page.body, helper.email+step.before)
		form := page.body[start:]
		form = form[:strings.Index(form, "</form>")+len("</form>")]
		if !strings.Contains(form, step.button) {
			t.Fatalf("no button %q after what it does", step.button)
		}
		if got := boss.submit(answer{body: form}, `[value="`+step.do+`"]`); got.status != http.StatusSeeOther {
			t.Fatalf("%s: %d", step.button, got.status)
		}
		boss.wants("/admin/users", step.after)
	}
}

// TestWhoIsAskedToReconnect: staff see who gets the mail before it is sent, and why nobody would.
func TestWhoIsAskedToReconnect(t *testing.T) {
	t.Parallel()
	for name, mails := range map[string]bool{"with mail": true, "without mail": false} {
		t.Run(name, func(t *testing.T) {
			h := newTestServer(t, withOptions(func(_ *Options, o *jobs.Options) { o.Outbox = mails }))
			boss, helper, sok := h.staff(audit.RoleAdmin), h.staff(audit.RoleSupport), h.merchant("CH168 Shop")
			id := dbtest.Connection(t, h.db, sok.merchant, "caminvoice", "KHUID00001234", "CH168 Co., Ltd", dbtest.Refused(h.db.Now()))
			path := "/connections/" + id.String()
			if mails {
				helper.wants(path, words("admin_connection.ask-to", "Count", 1, "To", sok.email))
			} else {
				helper.wants(path, words("admin_connection.no-mail"))
				if got := helper.follow(helper.post(path + "/ask")); !got.says("asked-why.no-mail") {
					t.Errorf("why there is a link instead of a mail is not said: %d", got.status)
				}
			}
			dbtest.NoPassword(t, h.db, sok.email)
			if got := helper.wants(path, words("admin_connection.all-invited"), sok.email, words("admin_connection.admin-invites")); got.has(`[value="invite"]`) {
				t.Error("support is offered to invite")
			}
			page := boss.wants(path, words("admin_connection.all-invited"))
			again := boss.submit(page, `[value="invite"]`)
			if page := boss.follow(again); strings.Contains(page.body, "/invitations/") == mails {
				t.Errorf("invited again: a link is shown: %t", !mails)
			}
			if got := boss.follow(boss.post(path + "/ask")); mails && !got.says("asked-why.nobody") {
				t.Errorf("nobody to write to: %d", got.status)
			}
		})
	}
}
