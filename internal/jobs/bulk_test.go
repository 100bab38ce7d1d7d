package jobs

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/bulk"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
)

// sleepy is a provider that answers when it is told to.
type sleepy struct{ asked, answer chan struct{} }

func (*sleepy) Info() connectors.Info {
	return connectors.Info{Name: "flexiti", Title: "Flexiti", Environment: "sandbox"}
}

func (s *sleepy) Refresh(ctx context.Context, _ connectors.Grant) (connectors.Token, error) {
	s.asked <- struct{}{}
	select {
	case <-s.answer:
		return connectors.Token{Access: "fresh", Lifetime: time.Hour}, nil
	case <-ctx.Done():
		return connectors.Token{}, ctx.Err()
	}
}

// bulkState waits until the bulk is in a state.
func (o *testJobs) bulkState(t *testing.T, id pg.ID, want bulk.State) {
	t.Helper()
	dbtest.Eventually(t, "a bulk that is "+string(want), func() bool {
		b, err := bulk.Read(context.Background(), o.DB, id)
		if err != nil {
			t.Fatal(err)
		}
		return b.State == want
	})
}

func TestABulkWhoseProcessDiedIsTakenUpAgain(t *testing.T) {
	o := newTestJobs(t, nil)
	id := dbtest.Bulk(t, o.DB, o.user(t, "sok@ch168.example", "en", "a long password").ID, "flexiti")
	o.start(t)
	o.bulkState(t, id, bulk.Done)
}

func TestWhatABulkHadUnderWayWhenItsProcessStoppedIsNotGivenUp(t *testing.T) {
	provider := &sleepy{asked: make(chan struct{}, 8), answer: make(chan struct{})}
	var engine *refresh.Engine
	o := newTestJobs(t, func(options *Options) {
		engine = refresh.New(refresh.Options{DB: options.DB, Connectors: []connectors.Connector{provider}, Log: slog.New(slog.DiscardHandler)})
		options.Refresh = engine
	})
	u := o.user(t, "sok@ch168.example", "en", "a long password")
	g := connectors.Grant{Token: connectors.Token{Access: "old", Lifetime: time.Hour, Refresh: "r"}, Account: connectors.Account{ID: "F1"}}
	connection, err := o.DB.AddConnection(context.Background(), u.MerchantID, "flexiti", "sandbox", g, o.DB.Now(), provider.Info())
	if err != nil {
		t.Fatal(err)
	}
	id := dbtest.Bulk(t, o.DB, u.ID, "flexiti", connection)
	if err := o.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	dbtest.Receive(t, provider.asked, "a refresh")
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := o.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	close(provider.answer)
	if err := engine.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	b, err := bulk.Read(ctx, o.DB, id)
	if err != nil {
		t.Fatal(err)
	}
	if b.State != bulk.Running || b.Done != 0 {
		t.Errorf("the bulk is %s with %v, and should go on in the next process", b.State, b.Outcomes)
	}
}

// TestABulkGoesOnWhenAMerchantIsErased erases a merchant while the provider is asked for one of its connections, with mail to its people and a
// revocation waiting: the bulk ends without it, nothing is sent to anybody of it, and no job fails for ever.
func TestABulkGoesOnWhenAMerchantIsErased(t *testing.T) {
	provider := &sleepy{asked: make(chan struct{}, 8), answer: make(chan struct{})}
	o := newTestJobs(t, func(options *Options) {
		options.Refresh = refresh.New(refresh.Options{DB: options.DB, Connectors: []connectors.Connector{provider}, Log: options.Log})
	})
	ctx := context.Background()
	leaves := o.user(t, "sok@leaver.example", "en", "a long password")
	admin := dbtest.User(t, o.DB, audit.RoleAdmin, "boss@platform.example", "a long password", "")
	stays, err := o.DB.AddMerchant(ctx, audit.System, db.Merchant{Name: "Stays"})
	if err != nil {
		t.Fatal(err)
	}
	var connections []pg.ID
	for i, merchant := range []pg.ID{leaves.MerchantID, leaves.MerchantID, stays.ID} {
		g := connectors.Grant{Token: connectors.Token{Access: "old", Lifetime: time.Hour, Refresh: "r"}, Account: connectors.Account{ID: string(rune('A'+i)) + "leaver"}}
		id, err := o.DB.AddConnection(ctx, merchant, "flexiti", "sandbox", g, o.DB.Now(), provider.Info())
		if err != nil {
			t.Fatal(err)
		}
		connections = append(connections, id)
	}
	for _, kind := range []notify.MailKind{notify.MailPassword, notify.MailPasswordChanged} {
		if err := o.SendMail(ctx, notify.Mail{Kind: kind, User: leaves.ID}); err != nil {
			t.Fatal(err)
		}
	}
	if err := o.SendMail(ctx, notify.Mail{Kind: notify.MailReconnect, User: leaves.ID, Connections: connections[:1]}); err != nil {
		t.Fatal(err)
	}
	id := dbtest.Bulk(t, o.DB, admin.ID, "flexiti", connections...)
	if err := o.DB.EraseMerchant(ctx, audit.System, stays.ID); err != nil { // one of it before the bulk begins
		t.Fatal(err)
	}
	o.start(t)
	dbtest.Receive(t, provider.asked, "a refresh")
	if err := o.DB.EraseMerchant(ctx, audit.System, leaves.MerchantID); err != nil {
		t.Fatal(err)
	}
	close(provider.answer)
	o.bulkState(t, id, bulk.Done)
	dbtest.Eventually(t, "no mail", func() bool {
		waiting, _ := dbtest.Jobs(t, o.DB, "mail", time.Hour)
		return waiting == 0
	})
	for _, merchant := range []pg.ID{leaves.MerchantID, stays.ID} {
		if err := o.FinishErasure(ctx, merchant); err != nil {
			t.Fatal(err)
		}
	}
	b, err := bulk.Read(ctx, o.DB, id)
	if err != nil || b.Total != 0 {
		t.Errorf("the bulk has %d connections, %v", b.Total, err)
	}
	for line := range strings.Lines(dbtest.Dump(t, o.DB)) {
		if strings.Contains(line, "leaver") {
			t.Errorf("came back: %s", line)
		}
	}
	if strings.Contains(o.log.String(), "level=ERROR") {
		t.Errorf("the log has an error:\n%s", o.log.String())
	}
}
