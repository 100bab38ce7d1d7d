package jobs

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/bulk"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// askAll makes a dry run of asking for all connections and returns it.
func (o *testJobs) askAll(t *testing.T, by account.User) bulk.Bulk {
	t.Helper()
	ctx := t.Context()
	id, err := bulk.Add(ctx, o.DB, audit.Actor{Role: by.Role, ID: by.ID}, bulk.Ask, bulk.Filter{Connections: &search.Filter{}}, "")
	if err != nil {
		t.Fatal(err)
	}
	for complete := false; !complete; {
		if complete, err = bulk.Gather(ctx, o.DB, id, connectors.Statuses(o.Providers), 2); err != nil {
			t.Fatal(err)
		}
	}
	return o.bulk(t, id)
}

func (o *testJobs) bulk(t *testing.T, id pg.ID) bulk.Bulk {
	t.Helper()
	b, err := bulk.Read(context.Background(), o.DB, id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// begin starts a dry run and returns the bulk as it is then.
func (o *testJobs) begin(t *testing.T, b bulk.Bulk) bulk.Bulk {
	t.Helper()
	if err := bulk.Start(t.Context(), o.DB, audit.Actor{Role: b.ByRole, ID: b.CreatedBy}, b, o.Jobs); err != nil {
		t.Fatal(err)
	}
	return o.bulk(t, b.ID)
}

// asked returns how many asks the timeline of a connection has.
func (o *testJobs) asked(t *testing.T, connection pg.ID) (n int) {
	t.Helper()
	page, err := o.DB.Audit.List(t.Context(), audit.Filter{Kind: status.ConnectionReconnectAsked, Connections: []pg.ID{connection}}, "", 50)
	if err != nil {
		t.Fatal(err)
	}
	return len(page.Rows)
}

// written returns how many mails to reconnect each address got.
func (o *testJobs) written(t *testing.T) map[string]int {
	t.Helper()
	dbtest.Eventually(t, "every mail", func() bool {
		waiting, _ := dbtest.Jobs(t, o.DB, "mail", time.Hour)
		return waiting == 0
	})
	mails, err := notify.OutboxMails(t.Context(), o.DB.Keyring, 100)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, m := range mails {
		if strings.Contains(m.Text, "/reconnect/") {
			got[m.Recipient]++
		}
	}
	return got
}

func TestManyAreAskedToReconnect(t *testing.T) {
	o := newTestJobs(t, nil)
	support := dbtest.User(t, o.DB, audit.RoleSupport, "lin@platform.example", "a long password", "")
	sok := o.user(t, "sok@ch168.example", "en", "a long password")
	dara := dbtest.User(t, o.DB, audit.RoleMerchant, "dara@ch168.example", "a long password", "CH168 Shop")
	dbtest.User(t, o.DB, audit.RoleMerchant, "new@ch168.example", "", "CH168 Shop") // has not accepted the invitation
	if err := o.Accounts.LockUser(t.Context(), audit.System, dbtest.User(t, o.DB, audit.RoleMerchant, "gone@ch168.example", "a long password", "CH168 Shop").ID); err != nil {
		t.Fatal(err)
	}
	other := dbtest.User(t, o.DB, audit.RoleMerchant, "book@mekong.example", "a long password", "Mekong Books")
	nobody, err := o.DB.AddMerchant(t.Context(), audit.System, db.Merchant{Name: "Nobody Yet"})
	if err != nil {
		t.Fatal(err)
	}
	now := o.DB.Now()
	refused := dbtest.Refused(now)
	all := map[string]pg.ID{
		"is refused":                       o.connection(t, sok, "caminvoice", "K1", refused),
		"is refused, of another merchant":  o.connection(t, other, "caminvoice", "K2", refused),
		"ends within seven days":           o.connection(t, sok, "caminvoice", "K3", dbtest.Lapsing(now.Add(6*24*time.Hour))),
		"ends later":                       o.connection(t, sok, "caminvoice", "K4", dbtest.Lapsing(now.Add(20*24*time.Hour))),
		"works":                            o.connection(t, sok, "caminvoice", "K5"),
		"is tried again":                   o.connection(t, sok, "caminvoice", "K6", dbtest.Retrying(now)),
		"waits for the platform":           o.connection(t, sok, "caminvoice", "K7", dbtest.Problem(status.ProblemClientRejected, now)),
		"is disconnected":                  o.connection(t, sok, "caminvoice", "K8", dbtest.Disconnected(now)),
		"was asked for 23 hours ago":       o.connection(t, sok, "caminvoice", "K9", refused),
		"was asked for two days ago":       o.connection(t, sok, "caminvoice", "K10", refused),
		"is of a merchant without people":  dbtest.Connection(t, o.DB, nobody.ID, "caminvoice", "K11", "K11", refused),
		"works again after the dry run":    o.connection(t, sok, "caminvoice", "K12", refused),
		"is asked for after the dry run":   o.connection(t, sok, "caminvoice", "K13", refused),
		"is disconnected after the counts": o.connection(t, sok, "caminvoice", "K14", refused),
	}
	single := func(name string, mail bool) {
		t.Helper()
		c, err := o.DB.ConnectionDetail(t.Context(), all[name], pg.ID{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bulk.AskToReconnect(t.Context(), o.DB, audit.Actor{Role: support.Role, ID: support.ID}, c.Connection, mail, o.Jobs); err != nil {
			t.Fatal(err)
		}
	}
	single("was asked for two days ago", false)
	o.clock.Advance(25 * time.Hour)
	single("was asked for 23 hours ago", false)
	o.clock.Advance(23 * time.Hour)

	b := o.askAll(t, support)
	if b.State != bulk.DryRun || b.Total != 9 || b.Waiting() != 7 || b.Merchants != 2 || b.Outcomes[status.AskedBefore] != 1 || b.Outcomes[status.NoPerson] != 1 {
		t.Errorf("the dry run: %d, %d wait, of %d merchants, %v", b.Total, b.Waiting(), b.Merchants, b.Outcomes)
	}
	before := o.written(t)
	dbtest.Set(t, o.DB, all["works again after the dry run"], dbtest.Working())
	dbtest.Set(t, o.DB, all["is disconnected after the counts"], dbtest.Disconnected(o.DB.Now()))
	single("is asked for after the dry run", false)
	if len(before) != 0 {
		t.Fatalf("a dry run wrote: %v", before)
	}
	o.begin(t, b)
	o.start(t)
	o.bulkState(t, b.ID, bulk.Done)
	want := map[status.Outcome]int64{status.Asked: 4, status.AskedBefore: 2, status.NoPerson: 1, status.Skipped: 2}
	if got := o.bulk(t, b.ID); !maps.Equal(got.Outcomes, want) {
		t.Errorf("in the end %v, want %v", got.Outcomes, want)
	}
	if got, want := o.written(t), map[string]int{sok.Email: 3, dara.Email: 3, other.Email: 1}; !maps.Equal(got, want) {
		t.Errorf("mails: %v, want %v", got, want)
	}
	times := map[string]int{
		"is refused": 1, "is refused, of another merchant": 1, "ends within seven days": 1, "was asked for two days ago": 2, "was asked for 23 hours ago": 1, "is asked for after the dry run": 1,
	}
	for name, id := range all {
		if n := o.asked(t, id); n != times[name] {
			t.Errorf("a connection that %s: %d asks in its timeline, want %d", name, n, times[name])
		}
	}
	last, err := o.DB.Audit.Latest(t.Context(), 1, status.ConnectionReconnectAsked)
	if err != nil || len(last) != 1 || last[0].Actor.ID != support.ID || last[0].Actor.Role != audit.RoleSupport || !strings.Contains(last[0].Note, "@") {
		t.Errorf("the event: %+v, %v", last, err)
	}
	if b := o.askAll(t, support); b.Waiting() != 0 || b.Merchants != 0 {
		t.Errorf("once more at once: %d would be asked for", b.Waiting())
	}
	o.clock.Advance(25 * time.Hour)
	if b := o.askAll(t, support); b.Waiting() != 6 {
		t.Errorf("a day later: %d would be asked for", b.Waiting())
	}
}

// failsAfter takes so many mails, and then none.
type failsAfter struct {
	db.Jobs
	left int
}

func (f *failsAfter) EnqueueMail(ctx context.Context, tx pgx.Tx, m notify.Mail) error {
	if f.left--; f.left < 0 {
		return errors.New("the process has died")
	}
	return f.Jobs.EnqueueMail(ctx, tx, m)
}

// TestAProcessThatDiesAmongAsksAsksNobodyTwice has it die between the two mails of its second ask; another goes on.
func TestAProcessThatDiesAmongAsksAsksNobodyTwice(t *testing.T) {
	o := newTestJobs(t, nil)
	ctx := t.Context()
	support := dbtest.User(t, o.DB, audit.RoleSupport, "lin@platform.example", "a long password", "")
	sok := o.user(t, "sok@ch168.example", "en", "a long password")
	dara := dbtest.User(t, o.DB, audit.RoleMerchant, "dara@ch168.example", "a long password", "CH168 Shop")
	var all []pg.ID
	for _, name := range []string{"K1", "K2", "K3"} {
		all = append(all, o.connection(t, sok, "caminvoice", name, dbtest.Refused(o.DB.Now())))
	}
	b := o.begin(t, o.askAll(t, support))
	dead := pg.NewID()
	if leased, err := bulk.Lease(ctx, o.DB, b.ID, dead, -time.Second); err != nil || !leased {
		t.Fatal(leased, err)
	}
	providers := connectors.Statuses(o.Providers)
	dies := &failsAfter{Jobs: o.Jobs, left: 3}
	if err := bulk.AskOne(ctx, o.DB, b, all[0], providers, dies); err != nil {
		t.Fatal(err)
	}
	if err := bulk.AskOne(ctx, o.DB, b, all[1], providers, dies); err == nil {
		t.Fatal("it did not die")
	}
	if n := o.asked(t, all[1]); n != 0 {
		t.Errorf("an ask that was not made has %d events", n)
	}
	o.start(t)
	o.bulkState(t, b.ID, bulk.Done)
	if got := o.bulk(t, b.ID); got.Outcomes[status.Asked] != 3 {
		t.Errorf("in the end %v", got.Outcomes)
	}
	if got, want := o.written(t), map[string]int{sok.Email: 3, dara.Email: 3}; !maps.Equal(got, want) {
		t.Errorf("mails: %v, want %v", got, want)
	}
	for i, id := range all {
		if n := o.asked(t, id); n != 1 {
			t.Errorf("connection %d was asked for %d times", i, n)
		}
	}
}

// TestTwoBulksAskOnce: many at once ask for a connection at the same time.
func TestTwoBulksAskOnce(t *testing.T) {
	o := newTestJobs(t, nil)
	support := dbtest.User(t, o.DB, audit.RoleSupport, "lin@platform.example", "a long password", "")
	id := o.connection(t, o.user(t, "sok@ch168.example", "en", "a long password"), "caminvoice", "K1", dbtest.Refused(o.DB.Now()))
	first, second := o.askAll(t, support), o.askAll(t, support)
	first, second = o.begin(t, first), o.begin(t, second)
	providers := connectors.Statuses(o.Providers)
	var work sync.WaitGroup
	for range 4 {
		for _, b := range []bulk.Bulk{first, second} {
			work.Go(func() {
				if err := bulk.AskOne(context.Background(), o.DB, b, id, providers, o.Jobs); err != nil {
					t.Error(err)
				}
			})
		}
	}
	dbtest.Wait(t, &work, "the jobs")
	outcomes := []map[status.Outcome]int64{o.bulk(t, first.ID).Outcomes, o.bulk(t, second.ID).Outcomes}
	if n := o.asked(t, id); n != 1 || outcomes[0][status.Asked]+outcomes[1][status.Asked] != 1 || outcomes[0][status.AskedBefore]+outcomes[1][status.AskedBefore] != 1 {
		t.Errorf("asked %d times: %v", n, outcomes)
	}
}

func TestAsksStop(t *testing.T) {
	o := newTestJobs(t, nil)
	support := dbtest.User(t, o.DB, audit.RoleSupport, "lin@platform.example", "a long password", "")
	sok := o.user(t, "sok@ch168.example", "en", "a long password")
	var all []pg.ID
	for i := range 40 {
		all = append(all, o.connection(t, sok, "caminvoice", "K"+strings.Repeat("1", i+1), dbtest.Refused(o.DB.Now())))
	}
	b := o.begin(t, o.askAll(t, support))
	o.start(t)
	dbtest.Eventually(t, "the first ask", func() bool { return o.bulk(t, b.ID).Done > 0 })
	if err := bulk.Stop(t.Context(), o.DB, audit.Actor{Role: support.Role, ID: support.ID}, b); err != nil {
		t.Fatal(err)
	}
	made := o.bulk(t, b.ID).Done
	o.bulkState(t, b.ID, bulk.Stopped)
	for _, id := range all { // a worker that has not noticed
		if err := bulk.AskOne(t.Context(), o.DB, b, id, connectors.Statuses(o.Providers), o.Jobs); err != nil {
			t.Fatal(err)
		}
	}
	if got := o.bulk(t, b.ID); got.Done != made || made == int64(len(all)) || int64(dbtest.Events(t, o.DB, status.ConnectionReconnectAsked)) != made {
		t.Errorf("%d were asked when it was stopped, %d in the end, with %d events", made, got.Done, dbtest.Events(t, o.DB, status.ConnectionReconnectAsked))
	}
}

// TestAsksWaitForTheEndOfAnIncident: the merchant could not reconnect now.
func TestAsksWaitForTheEndOfAnIncident(t *testing.T) {
	o := newTestJobs(t, nil)
	support := dbtest.User(t, o.DB, audit.RoleSupport, "lin@platform.example", "a long password", "")
	sok := o.user(t, "sok@ch168.example", "en", "a long password")
	waits := o.connection(t, sok, "caminvoice", "K1", dbtest.Refused(o.DB.Now()))
	goes := o.connection(t, sok, "flexiti", "F1", dbtest.Refused(o.DB.Now()))
	dbtest.Incident(t, o.DB, "caminvoice", "")
	b := o.begin(t, o.askAll(t, support))
	o.start(t)
	dbtest.Eventually(t, "the other provider's", func() bool { return o.asked(t, goes) == 1 })
	if n := o.asked(t, waits); n != 0 {
		t.Errorf("asked %d times during an incident", n)
	}
	dbtest.NoIncidents(t, o.DB)
	o.bulkState(t, b.ID, bulk.Done)
	if n := o.asked(t, waits); n != 1 {
		t.Errorf("asked %d times after it", n)
	}
}
