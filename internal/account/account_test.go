package account_test

import (
	"bytes"
	"os/exec"
	"testing"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
)

func TestNoSecretIsReadableInADump(t *testing.T) {
	where := dbtest.Make(t)
	d := where.Open(t)
	accounts := account.New(d)
	ctx := t.Context()
	u := addUser(t, d, accounts, audit.RoleMerchant, "sok@ch168.example")
	session := pg.NewSecret()
	if err := accounts.AddSession(ctx, session, u, "192.0.2.7", "Mozilla/5.0"); err != nil {
		t.Fatal(err)
	}
	link, _, err := accounts.AddLink(ctx, audit.System, account.LinkPassword, u.ID, pg.ID{})
	if err != nil {
		t.Fatal(err)
	}
	if err := notify.AddOutboxMail(ctx, d.Keyring, notify.OutboxMail{User: u.ID, Recipient: u.Email, Subject: "ជ្រើសរើសពាក្យសម្ងាត់ថ្មី", Text: "https://connect.example/password/" + string(link)}); err != nil {
		t.Fatal(err)
	}
	kept, err := notify.OutboxMails(ctx, d.Keyring, 5)
	if err != nil || len(kept) != 1 || !bytes.Contains([]byte(kept[0].Text), []byte(link)) {
		t.Fatalf("the outbox: %v, %v", kept, err)
	}
	dump, err := exec.Command("pg_dump", "--data-only", where.URL).Output()
	if err != nil {
		t.Fatalf("pg_dump: %v", err)
	}
	if !bytes.Contains(dump, []byte(u.Email)) {
		t.Fatal("the dump is not of this database")
	}
	for name, secret := range map[string]string{"session": string(session), "link": string(link), "password": "a long password"} {
		if bytes.Contains(dump, []byte(secret)) {
			t.Errorf("the %s's secret is readable in a dump", name)
		}
	}
}
