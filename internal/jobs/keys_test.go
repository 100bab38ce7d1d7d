package jobs

import (
	"errors"
	"testing"

	"github.com/riverqueue/river"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/seal"
)

// TestAMailWaitsForAProcessThatHasTheKey has a user whom another process signed with a newer key.
func TestAMailWaitsForAProcessThatHasTheKey(t *testing.T) {
	o := newTestJobs(t, nil)
	ahead := o.where.Rotated(t).Open(t)
	u := dbtest.User(t, ahead, audit.RoleMerchant, "sok@shop.example", "correct horse battery", "CH168 Shop")
	job := &river.Job[mailArgs]{Args: mailArgs{notify.Mail{Kind: notify.MailPassword, User: u.ID}}}
	var snoozed *river.JobSnoozeError
	if err := o.runMail(t.Context(), job); !errors.As(err, &snoozed) || snoozed.Duration <= 0 {
		t.Errorf("where the key is missing: %v", err)
	}
	if mails, err := notify.OutboxMails(t.Context(), o.DB.Keyring, 10); err != nil || len(mails) != 0 || o.DB.LacksKey() == 0 {
		t.Errorf("%d mails, %v", len(mails), err)
	}
	o.Jobs.DB, o.Accounts = ahead, account.New(ahead)
	if err := o.runMail(t.Context(), job); err != nil {
		t.Errorf("where it is known: %v", err)
	}
	if mails, err := notify.OutboxMails(t.Context(), ahead.Keyring, 10); err != nil || len(mails) != 1 {
		t.Errorf("%d mails, %v", len(mails), err)
	}
}

// TestServeSealsAnewByItself: what an older key signed is signed by the new one after one run of the job.
func TestServeSealsAnewByItself(t *testing.T) {
	o := newTestJobs(t, nil)
	before, err := seal.Parse(o.where.Keyset)
	if err != nil {
		t.Fatal(err)
	}
	o.user(t, "sok@shop.example", "en", "correct horse battery")
	o.where = o.where.Rotated(t)
	o.Jobs.DB = o.where.Open(t)
	if err := o.runReseal(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if held, _, err := o.Jobs.DB.RowsLostWith(t.Context(), before.Primary()); err != nil || len(held) != 0 {
		t.Errorf("the old key holds %v, %v", held, err)
	}
	if _, err := account.New(o.where.Retired(t).Open(t)).UserByEmail(t.Context(), "sok@shop.example"); err != nil {
		t.Errorf("by the new key alone: %v", err)
	}
}
