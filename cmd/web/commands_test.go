package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
	"patchbay/internal/sandbox"
	"patchbay/internal/seal"
	"patchbay/internal/status"

	"github.com/pquerna/otp/totp"
)

// said runs a command and returns its exit code and all that it printed. One that serves is stopped after two minutes.
func said(t *testing.T, environ []string, in string, args ...string) (int, string, string) {
	t.Helper()
	var out, faults bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	code := run(ctx, terminal{strings.NewReader(in), &out, &faults, environ}, args)
	return code, out.String(), faults.String()
}

func operator(t *testing.T) (db dbtest.Database, environ []string) {
	t.Helper()
	db = dbtest.Make(t)
	return db, []string{
		"DATABASE_URL=" + db.URL, "KEYSET=" + db.Keyset, "PUBLIC_URL=http://127.0.0.1:8080",
		"SESSION_KEYS=" + base64.StdEncoding.EncodeToString(make([]byte, 32)),
	}
}

func TestUserAdd(t *testing.T) {
	d, environ := operator(t)
	code, out, faults := said(t, environ, "correct horse\r\nsecond line", "user", "add", "-email", "sok@shop.example", "-role", "merchant", "-merchant", "ហាង ១")
	if code != 0 {
		t.Fatal(faults)
	}
	id, err := pg.ParseID(strings.TrimSpace(out))
	if err != nil {
		t.Fatalf("printed %q, not an id", out)
	}
	ctx := context.Background()
	opened := d.Open(t)
	accounts := account.New(opened)
	user, err := accounts.Authenticate(ctx, "sok@shop.example", "correct horse", false)
	if err != nil || user.ID != id {
		t.Errorf("the first line is not the password: %v", err)
	}
	// A second user joins the merchant of that name.
	if code, _, faults := said(t, environ, "x correct horse", "user", "add", "-email", "two@shop.example", "-role", "merchant", "-merchant", "ហាង ១"); code != 0 {
		t.Fatal(faults)
	}
	two, err := accounts.UserByEmail(ctx, "two@shop.example")
	if err != nil || two.MerchantID != user.MerchantID {
		t.Errorf("the second user's merchant is another: %v", err)
	}
	if code, _, _ := said(t, environ, "x correct horse", "user", "add", "-email", "two@shop.example", "-role", "merchant", "-merchant", "ហាង ២"); code != 1 {
		t.Errorf("an e-mail address twice: code %d", code)
	}
	if _, err := opened.MerchantByName(ctx, "ហាង ២"); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("a merchant was added without its user: %v", err)
	}
	if _, err := opened.AddMerchant(ctx, audit.System, db.Merchant{Name: "ហាង ១"}); err != nil {
		t.Fatal(err)
	}
	code, _, faults = said(t, environ, "correct horse", "user", "add", "-email", "three@shop.example", "-role", "merchant", "-merchant", "ហាង ១")
	if code != 1 || !strings.Contains(faults, "-merchant-id") {
		t.Errorf("two merchants of one name: code %d, %s", code, faults)
	}
	code, _, faults = said(t, environ, "correct horse", "user", "add", "-email", "three@shop.example", "-role", "merchant", "-merchant-id", user.MerchantID.String())
	if code != 0 {
		t.Error(faults)
	}
}

func TestAPIKeyAddPrintsTheKeyAloneOnTheLastLine(t *testing.T) {
	d, environ := operator(t)
	code, out, faults := said(t, environ, "", "apikey", "add", "-name", "erp", "-scope", "tokens:read")
	if code != 0 {
		t.Fatal(faults)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	key, err := d.Open(t).APIKeyBySecret(context.Background(), pg.Secret(lines[len(lines)-1]))
	if err != nil || key.Name != "erp" || len(key.Scopes) != 1 || key.Scopes[0] != db.ScopeTokens {
		t.Errorf("key %+v, %v", key, err)
	}
	if code, _, faults := said(t, environ, "", "apikey", "add", "-name", "erp", "-scope", "everything"); code != 1 || !strings.Contains(faults, "tokens:read") {
		t.Errorf("an unknown scope: code %d, %s", code, faults)
	}
}

func TestMigrateStatusAndDown(t *testing.T) {
	_, environ := operator(t)
	if code, out, _ := said(t, environ, "", "migrate", "status"); code != 0 || strings.Contains(out, "pending") || !strings.Contains(out, "applied  00001_people.sql") {
		t.Errorf("code %d:\n%s", code, out)
	}
	if code, _, faults := said(t, environ, "", "migrate", "down"); code != 0 {
		t.Fatal(faults)
	}
	if _, out, _ := said(t, environ, "", "migrate", "status"); strings.Count(out, "pending") != 1 {
		t.Errorf("after one step down:\n%s", out)
	}
	if code, _, faults := said(t, environ, "", "migrate"); code != 0 {
		t.Fatal(faults)
	}
}

func TestDoctorFindsWhatIsWrong(t *testing.T) {
	d, environ := operator(t)
	providers := httptest.NewUnstartedServer(nil)
	box := sandbox.New(sandbox.Options{BaseURL: "http://" + providers.Listener.Addr().String()})
	t.Cleanup(func() { box.Close() })
	providers.Config.Handler = box
	providers.Start()
	t.Cleanup(providers.Close)
	for name, value := range box.Settings() {
		environ = append(environ, name+"="+value)
	}
	code, out, _ := said(t, environ, "", "doctor")
	for _, line := range []string{"ok     database", "ok     schema", "ok     keyset", "ok     flexiti", "-      caminvoice  the callback address"} {
		if !strings.Contains(out, line) {
			t.Errorf("no line %q", line)
		}
	}
	if code != 0 || strings.Contains(out, "WRONG") {
		t.Errorf("code %d:\n%s", code, out)
	}

	if err := d.Open(t).CallbackRegistered(t.Context(), "caminvoice", "sandbox", "https://old.example.com/connect/caminvoice/callback", audit.System); err != nil {
		t.Fatal(err)
	}
	if code, out, _ := said(t, environ, "", "doctor"); code != 1 || !strings.Contains(out, "WRONG  caminvoice  the callback address registered is https://old.example.com") {
		t.Errorf("after moving: code %d:\n%s", code, out)
	}

	other, err := seal.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	// The last of a name counts, as in every environment.
	_, out, _ = said(t, append(environ, "KEYSET="+other, "ELECQ_TOKEN_URL=", "FLEXITI_API_URL=http://127.0.0.1:1/flexiti/pos-api"), "", "doctor")
	for _, line := range []string{"WRONG  keyset", "WRONG  elecq       not offered to merchants: it lacks ELECQ_TOKEN_URL", "WRONG  flexiti"} {
		if !strings.Contains(out, line) {
			t.Errorf("no line %q in:\n%s", line, out)
		}
	}
}

func TestHealthcheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	environ := []string{"LISTEN=" + server.Listener.Addr().String()}
	if code, _, faults := said(t, environ, "", "healthcheck"); code != 0 {
		t.Error(faults)
	}
	status = http.StatusServiceUnavailable
	if code, _, _ := said(t, environ, "", "healthcheck"); code != 1 {
		t.Errorf("a server that is not ready: code %d", code)
	}
}

func TestUserResetSecondFactor(t *testing.T) {
	d, environ := operator(t)
	opened := d.Open(t)
	accounts := account.New(opened)
	u := dbtest.User(t, opened, audit.RoleAdmin, "boss@platform.example", "correct horse", "")
	reset := func(email string) (int, string, string) {
		return said(t, environ, "", "user", "reset-second-factor", "-email", email)
	}
	if code, _, faults := reset("boss@platform.example"); code != 1 || !strings.Contains(faults, "has no second factor") {
		t.Errorf("without one: %d %s", code, faults)
	}
	if code, _, faults := reset("nobody@platform.example"); code != 1 || !strings.Contains(faults, "there is no user") {
		t.Errorf("of nobody: %d %s", code, faults)
	}
	if code, _, _ := said(t, environ, "", "user", "reset-second-factor"); code != 2 {
		t.Errorf("without -email: %d, want 2", code)
	}
	secret := pg.NewSecret()
	if err := accounts.AddSession(t.Context(), secret, u, "", ""); err != nil {
		t.Fatal(err)
	}
	in, err := accounts.SignedInBy(t.Context(), secret)
	if err != nil {
		t.Fatal(err)
	}
	code, err := totp.GenerateCode(accounts.NewSetup(in.User, in.Session, "Patchbay").Secret, opened.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := accounts.TurnOnCodes(t.Context(), audit.System, in.User, in.Session, pg.NewSecret(), code, nil); err != nil {
		t.Fatal(err)
	}
	environ = append(environ, "SMTP_URL=smtp://127.0.0.1:25", "MAIL_FROM=patchbay@platform.example")
	if code, out, faults := reset("BOSS@platform.example"); code != 0 || !strings.Contains(out, "boss@platform.example") {
		t.Fatalf("%d %s %s", code, out, faults)
	}
	if now, err := accounts.User(t.Context(), u.ID); err != nil || now.SecondFactor {
		t.Errorf("after the reset: %v %v", now.SecondFactor, err)
	}
	if _, err := accounts.SignedInBy(t.Context(), secret); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("the session goes on: %v", err)
	}
	if n := dbtest.Events(t, opened, status.UserFactorReset); n != 1 {
		t.Errorf("%d events, want 1", n)
	}
	if waiting, _ := dbtest.Jobs(t, opened, jobs.MailKind, time.Minute); waiting != 1 {
		t.Errorf("%d mails wait, want 1", waiting)
	}
}

func TestMerchantErase(t *testing.T) {
	d, environ := operator(t)
	if code, _, faults := said(t, environ, "", "merchant", "erase", "-external-id", "shop-17"); code != 1 || !strings.Contains(faults, "there is no merchant") {
		t.Errorf("one that is not there: code %d, %s", code, faults)
	}
	if code, _, _ := said(t, environ, "", "merchant", "erase"); code != 2 {
		t.Errorf("without an id: code %d", code)
	}
	opened := d.Open(t)
	m, err := opened.AddMerchant(t.Context(), audit.System, db.Merchant{ExternalID: "shop-17", Name: "CH168 Shop"})
	if err != nil {
		t.Fatal(err)
	}
	dbtest.Connection(t, opened, m.ID, "caminvoice", "KHUID0001", "CH168")
	for range 2 { // the second time after a lost answer
		code, out, faults := said(t, environ, "", "merchant", "erase", "-external-id", "shop-17")
		if code != 0 || !strings.Contains(out, m.ID.String()) || !strings.Contains(out, `"connections": 1`) || !strings.Contains(out, `"owed": 1`) || !strings.Contains(faults, "within a minute") {
			t.Errorf("code %d: %s %s", code, out, faults)
		}
	}
	if strings.Contains(dbtest.Dump(t, opened), "CH168") {
		t.Error("the merchant is still there")
	}
}

// TestRestored says what cannot be meant, and marks a database once, also one of which nothing is known.
func TestRestored(t *testing.T) {
	d, environ := operator(t)
	opened := d.Open(t)
	at := func(back time.Duration) string { return opened.Now().Add(-back).UTC().Format(time.RFC3339) }
	for _, one := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"a word too many", []string{"yesterday"}, 2, "yesterday"},
		{"no time", []string{"-at", "yesterday"}, 2, "-at wants a time like"},
		{"a time without its zone", []string{"-at", "2026-05-01T09:30:00"}, 2, "-at wants a time like"},
		{"the future", []string{"-at", at(-time.Hour)}, 1, "-at is in the future"},
		{"a time", []string{"-at", at(2 * time.Hour)}, 0, "this database is marked as brought back on " + at(2 * time.Hour)[:16]},
		{"the same again", []string{"-at", at(3 * time.Hour)}, 0, "was marked as brought back on " + at(2 * time.Hour)[:16]},
		{"without a time what was said stays", nil, 0, "before: nothing is changed"},
		{"a later one", []string{"-at", at(time.Hour)}, 0, "this database is marked as brought back on " + at(time.Hour)[:16]},
	} {
		t.Run(one.name, func(t *testing.T) {
			code, out, faults := said(t, environ, "", append([]string{"restored"}, one.args...)...)
			if code != one.code || !strings.Contains(out+faults, one.says) {
				t.Errorf("code %d: %s%s, want %d and %q", code, out, faults, one.code, one.says)
			}
			if code == 0 && !strings.Contains(out, "0 of 0 connections have been refreshed since") {
				t.Errorf("it does not count: %s", out)
			}
		})
	}
	t.Run("nothing known of a restore", func(t *testing.T) {
		_, environ := operator(t)
		if code, out, faults := said(t, environ, "", "restored"); code != 0 || !strings.HasPrefix(out, "this database is marked as brought back on ") {
			t.Errorf("code %d: %s%s", code, out, faults)
		}
	})
}

// TestTheDoctorSaysWhatIsKnownOfARestore has each mark that a restore can leave.
func TestTheDoctorSaysWhatIsKnownOfARestore(t *testing.T) {
	d, environ := operator(t)
	opened := d.Open(t)
	at := func(back time.Duration) string { return opened.Now().Add(-back).UTC().Format(time.RFC3339) }
	noticed := at(time.Hour)
	for _, one := range []struct{ name, restored, said, want string }{
		{"nothing", "", "", "no sign that this database was brought back"},
		{"a standby that took over", noticed + " " + at(time.Hour+time.Minute), "", "a restore, or a standby that took over, was noticed on " + noticed},
		{"a copy of an earlier state", noticed + " " + at(9*time.Hour), "", "a copy of an earlier state, which knows what happened until " + at(9 * time.Hour)[:16]},
		{"what an operator has said", noticed + " " + at(9*time.Hour), noticed, "brought back on " + noticed + "; 0 of 0 connections"},
		{"one of eight days ago", at(8*24*time.Hour) + " " + at(9*24*time.Hour), "", "no sign that this database was brought back"},
	} {
		t.Run(one.name, func(t *testing.T) {
			for name, value := range map[string]string{"database.restored": one.restored, "database.restored_said": one.said} {
				if _, err := opened.Pool.Exec(t.Context(), `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`, name, value); err != nil {
					t.Fatal(err)
				}
			}
			if _, out, faults := said(t, environ, "", "doctor"); !strings.Contains(out, one.want) {
				t.Errorf("%s%s, want %q", out, faults, one.want)
			}
		})
	}
}
