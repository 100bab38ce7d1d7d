package handlers

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/notify"
	"patchbay/internal/status"
)

// TestMailThatFailsIsSeen: the overview and a metric show letters that wait and letters that were given up, and admins send them again.
func TestMailThatFailsIsSeen(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	admin, support := o.staff(audit.RoleAdmin), o.staff(audit.RoleSupport)
	figures := func() string { return o.ask(http.MethodGet, "/metrics", "", "").text }
	if text := figures(); !strings.Contains(text, `patchbay_jobs{kind="mail",state="waiting"} 0`) || !strings.Contains(text, `patchbay_jobs{kind="mail",state="given-up"} 0`) {
		t.Errorf("no figure while all is well:\n%s", text)
	}
	if admin.get("/admin").has(`form[action="/admin/mail"]`) {
		t.Error("mail is to be sent again while there is none")
	}
	user, err := o.accounts.UserByEmail(t.Context(), support.email)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := o.jobs.SendMail(t.Context(), notify.Mail{Kind: notify.MailPassword, User: user.ID}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		reason  string
		givenUp bool
		words   string
		figure  string
	}{
		{"mail not taken: x509: certificate signed by unknown authority", false, "todo.mail-waiting", `patchbay_jobs{kind="mail",state="waiting"} 2`},
		{"mail not taken: 550 relaying denied", true, "todo.mail-given-up", `patchbay_jobs{kind="mail",state="given-up"} 2`},
	} {
		dbtest.FailJobs(t, o.db, jobs.MailKind, c.reason, c.givenUp)
		page := admin.get("/admin")
		if !page.says(c.words, "Count", 2) || !page.says("todo.oldest") || !strings.Contains(page.text("code"), c.reason) {
			t.Errorf("the overview does not show %q: %s", c.reason, page.text("#figures"))
		}
		if text := figures(); !strings.Contains(text, c.figure) || !strings.Contains(text, "patchbay_jobs_oldest_seconds") {
			t.Errorf("no figure %s", c.figure)
		}
		if page := support.get("/admin"); !page.says(c.words, "Count", 2) || page.has(`form[action="/admin/mail"]`) {
			t.Error("support does not see it, or may send it")
		}
		if got := admin.submit(page, `form[action="/admin/mail"]`); got.location != "/admin" {
			t.Errorf("%d, to %q", got.status, got.location)
		}
		if page := admin.get("/admin"); !page.says("notice.mail-retried", "Letters", "2") || page.says("todo.mail-given-up", "Count", 2) {
			t.Errorf("they were not sent again: %s", page.text("body"))
		}
	}
	if n := o.events(status.MailRetried); n != 2 {
		t.Errorf("%d events", n)
	}
}

// TestTheOverviewSaysWhatIsKnownOfARestore has each mark that a restore can leave, as staff read them.
func TestTheOverviewSaysWhatIsKnownOfARestore(t *testing.T) {
	t.Parallel()
	o := newTestAPI(t)
	admin := o.staff(audit.RoleAdmin)
	o.connection(o.shop, "account", time.Minute)
	at := func(back time.Duration) string { return o.db.Now().Add(-back).UTC().Format(time.RFC3339Nano) }
	noticed, earlier := at(time.Hour), at(9*time.Hour)
	codes := []string{"todo.restored", "todo.restore-noticed", "todo.restore-takeover"}
	for _, one := range []struct{ name, restored, said, code string }{
		{"nothing", "", "", ""},
		{"a standby that took over", noticed + " " + at(time.Hour+time.Minute), "", "todo.restore-takeover"},
		{"a copy of an earlier state", noticed + " " + earlier, "", "todo.restore-noticed"},
		{"what an operator has said", noticed + " " + earlier, noticed, "todo.restored"},
		{"one of eight days ago", at(8*24*time.Hour) + " " + at(9*24*time.Hour), "", ""},
	} {
		t.Run(one.name, func(t *testing.T) {
			for name, value := range map[string]string{"database.restored": one.restored, "database.restored_said": one.said} {
				if _, err := o.db.Pool.Exec(t.Context(), `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value); err != nil {
					t.Fatal(err)
				}
			}
			page := admin.get("/admin")
			for _, code := range codes {
				if says := page.says(code, "Count", 1, "Of", 1); says != (code == one.code) {
					t.Errorf("the overview says %s: %t", code, says)
				}
			}
			if asks := strings.Contains(page.body, "patchbay restored"); asks != (one.code != "" && one.said == "") {
				t.Errorf("the overview names the command: %t", asks)
			}
		})
	}
}
