package jobs

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

func TestAdminsAreMailedOnceOfAnIncidentAndOfWhatIsForUs(t *testing.T) {
	o := newTestJobs(t, nil)
	o.start(t)
	dbtest.User(t, o.DB, audit.RoleAdmin, "boss@platform.example", "a long password", "")
	dbtest.User(t, o.DB, audit.RoleSupport, "support@platform.example", "a long password", "")
	sok := o.user(t, "sok@ch168.example", "en", "a long password")
	var all []pg.ID
	for _, account := range []string{"KHUID1", "KHUID2", "KHUID3"} {
		all = append(all, o.connection(t, sok, "caminvoice", account))
	}
	expect := func(when string, want ...string) {
		t.Helper()
		for i := range want {
			want[i] = "boss@platform.example: " + want[i]
		}
		if got := o.due(t); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", when, got, want)
		}
	}
	expect("all is well")
	dbtest.Incident(t, o.DB, "caminvoice", "")
	expect("an incident", "CamInvoice: an incident has begun")
	o.clock.Advance(time.Hour)
	expect("it lasts")
	dbtest.NoIncidents(t, o.DB)
	expect("it ends", "CamInvoice: the incident has ended")
	o.clock.Advance(time.Hour)
	dbtest.Incident(t, o.DB, "caminvoice", "")
	expect("another within a day")
	dbtest.NoIncidents(t, o.DB)
	expect("which ends")
	o.clock.Advance(25 * time.Hour)
	dbtest.Incident(t, o.DB, "caminvoice", "")
	expect("another on another day", "CamInvoice: an incident has begun")
	dbtest.NoIncidents(t, o.DB)
	expect("which ends too", "CamInvoice: the incident has ended")

	for _, id := range all {
		dbtest.Set(t, o.DB, id, dbtest.Problem(status.ProblemClientRejected, o.DB.Now()))
	}
	expect("our key is refused, just now")
	o.clock.Advance(6 * time.Minute)
	expect("and for a while", "CamInvoice: for us to put right")
	dbtest.Set(t, o.DB, o.connection(t, sok, "caminvoice", "KHUID4"), dbtest.Problem(status.ProblemClientRejected, o.DB.Now()))
	o.clock.Advance(48 * time.Hour)
	expect("one more, and it lasts for days")
}

// TestAnAdminSwitchesTheMailsToAdminsOff for themselves alone, also those that wait to be written.
func TestAnAdminSwitchesTheMailsToAdminsOff(t *testing.T) {
	o := newTestJobs(t, nil)
	o.start(t)
	boss := dbtest.User(t, o.DB, audit.RoleAdmin, "boss@platform.example", "a long password", "")
	other := dbtest.User(t, o.DB, audit.RoleAdmin, "other@platform.example", "a long password", "")
	ctx := t.Context()
	waits := notify.Mail{Kind: notify.MailIncident, Provider: "caminvoice", Environment: "sandbox", Code: "ours", User: boss.ID}
	if page, err := o.compose(ctx, waits, boss, db.Merchant{}); err != nil || page.Switch != "https://connect.example.com/account" {
		t.Errorf("says where to switch it off: %q, %v", page.Switch, err)
	}
	for _, mails := range []struct {
		when   string
		wanted map[pg.ID]bool
		want   []string
	}{
		{"one of two is off", map[pg.ID]bool{boss.ID: false}, []string{"other@platform.example: CamInvoice: an incident has begun"}},
		{"both are off", map[pg.ID]bool{other.ID: false}, nil},
		{"one is on again", map[pg.ID]bool{boss.ID: true}, []string{"boss@platform.example: CamInvoice: an incident has begun"}},
	} {
		for user, wanted := range mails.wanted {
			if err := o.Accounts.SetNotices(ctx, user, wanted); err != nil {
				t.Fatal(err)
			}
		}
		o.clock.Advance(25 * time.Hour)
		dbtest.Incident(t, o.DB, "caminvoice", "")
		if got := o.due(t); !slices.Equal(got, mails.want) {
			t.Errorf("%s: %q, want %q", mails.when, got, mails.want)
		}
		dbtest.NoIncidents(t, o.DB)
		o.due(t)
	}
	off, err := o.Accounts.User(ctx, other.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []notify.MailKind{notify.MailIncident, notify.MailIncidentEnded, notify.MailPlatformActionNeeded, notify.MailWebhookOff} {
		waits.Kind = kind
		if _, err := o.compose(ctx, waits, off, db.Merchant{}); !errors.Is(err, errNeedless) {
			t.Errorf("%s that waited: %v", kind, err)
		}
	}
	if _, err := o.compose(ctx, notify.Mail{Kind: notify.MailPasswordChanged, User: other.ID}, off, db.Merchant{}); err != nil {
		t.Errorf("a mail that all get: %v", err)
	}
}

// TestMailsToAdminsLeadToTheirPages composes them for an admin.
func TestMailsToAdminsLeadToTheirPages(t *testing.T) {
	o := newTestJobs(t, nil)
	admin := dbtest.User(t, o.DB, audit.RoleAdmin, "boss@platform.example", "a long password", "")
	for link, m := range map[string]notify.Mail{
		"https://connect.example.com/admin/providers/caminvoice":                                    {Kind: notify.MailIncident, Provider: "caminvoice", Environment: "sandbox", Code: "ours", User: admin.ID},
		"https://connect.example.com/admin/connections?problem=client-rejected&provider=caminvoice": {Kind: notify.MailPlatformActionNeeded, Provider: "caminvoice", Code: "client-rejected", Count: 2, User: admin.ID},
		"https://connect.example.com/password":                                                      {Kind: notify.MailPasswordChanged, User: admin.ID},
	} {
		page, err := o.compose(t.Context(), m, admin, db.Merchant{})
		if err != nil || page.Link != link || m.Provider != "" && page.Provider != "CamInvoice" {
			t.Errorf("%s: %q of %q, %v", m.Kind, page.Link, page.Provider, err)
		}
	}
}

// kept collects the mails that are enqueued.
type kept struct {
	db.Jobs
	mu    sync.Mutex
	mails []notify.Mail
}

func (k *kept) EnqueueMail(_ context.Context, _ pgx.Tx, m notify.Mail) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mails = append(k.mails, m)
	return nil
}

func (k *kept) EnqueueRevocation(context.Context, pgx.Tx, db.Connection, time.Time) error { return nil }

func (k *kept) kinds() (all []string) {
	for _, m := range k.mails {
		all = append(all, string(m.Kind))
	}
	slices.Sort(all)
	return all
}

// TestManyProcessesWriteOnce has eight processes look at the same time for what is due, and end the same connection.
func TestManyProcessesWriteOnce(t *testing.T) {
	o := newTestJobs(t, nil)
	dbtest.User(t, o.DB, audit.RoleAdmin, "boss@platform.example", "a long password", "")
	sok := o.user(t, "sok@ch168.example", "en", "a long password")
	refused := o.connection(t, sok, "caminvoice", "KHUID1", dbtest.Refused(o.DB.Now()))
	ended := o.connection(t, sok, "caminvoice", "KHUID2")
	dbtest.Incident(t, o.DB, "flexiti", "")
	o.clock.Advance(6 * time.Minute)
	providers := connectors.Statuses(o.Providers)
	var k kept
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			ctx := context.Background()
			_, err := notify.EnqueueWarnings(ctx, o.DB.DB, providers, &k)
			if err == nil {
				_, err = notify.EnqueueNotices(ctx, o.DB.DB, providers, &k)
			}
			if err == nil {
				_, _, err = o.DB.Disconnect(ctx, ended, pg.ID{}, audit.System, &k)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	dbtest.Wait(t, &all, "the senders")
	if got := k.kinds(); !slices.Equal(got, []string{"action-needed", "disconnected", "incident"}) {
		t.Errorf("%q were written", got)
	}

	// A mail that waits when the merchant reconnects is not sent, and "works again" is not written of what was not mailed.
	dbtest.Set(t, o.DB, refused, dbtest.Working())
	if err := o.writeMail(t.Context(), notify.Mail{Kind: notify.MailActionNeeded, User: sok.ID, Connections: []pg.ID{refused}}); err != nil {
		t.Fatal(err)
	}
	dbtest.NoIncidents(t, o.DB)
	o.start(t)
	for _, got := range o.due(t) {
		if strings.HasPrefix(got, "sok@") {
			t.Errorf("the merchant is written to: %s", got)
		}
	}
}

func TestReceiptsAndNewPasswordsAreMailed(t *testing.T) {
	o := newTestJobs(t, nil)
	ctx := t.Context()
	sok := o.user(t, "sok@ch168.example", "en", "a long password")
	o.user(t, "invited@ch168.example", "en", "")
	id := o.connection(t, sok, "caminvoice", "KHUID1")
	var k kept
	by := audit.Actor{Role: audit.RoleMerchant, ID: sok.ID}
	if _, _, err := o.DB.Disconnect(ctx, id, sok.MerchantID, by, &k); err != nil {
		t.Fatal(err)
	}
	if _, err := o.Accounts.ChangePassword(ctx, by, sok, "a long password", "another secret of mine", account.Session{}, &k); err != nil {
		t.Fatal(err)
	}
	if got := k.kinds(); !slices.Equal(got, []string{"disconnected", "password-changed"}) {
		t.Fatalf("%q were written", got)
	}
	page, err := o.compose(ctx, k.mails[0], sok, dbtest.Merchant(t, o.DB, "CH168 Shop"))
	if err != nil || page.Receipt == nil || page.Receipt.By != "Sok" || page.Link != "https://connect.example.com/connections/"+id.String() {
		t.Errorf("the receipt: %+v, %v", page, err)
	}
	if text := page.Text(ctx); !strings.Contains(text, "By: Sok\n") || !strings.Contains(text, "KHUID1") || strings.Contains(text, "another secret") {
		t.Errorf("the receipt:\n%s", text)
	}
	dbtest.Set(t, o.DB, id, dbtest.Working())
	if _, err := o.DB.Pool.Exec(ctx, `UPDATE connections SET disconnected_at = NULL WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	if _, err := o.compose(ctx, k.mails[0], sok, dbtest.Merchant(t, o.DB, "CH168 Shop")); err == nil {
		t.Error("a receipt for an account that is connected again")
	}
}
