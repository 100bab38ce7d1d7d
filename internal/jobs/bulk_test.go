package jobs

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
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
func (o *testJobs) bulkState(t *testing.T, id pg.ID, want db.BulkState) {
	t.Helper()
	dbtest.Eventually(t, "a bulk that is "+string(want), func() bool {
		b, err := o.DB.Bulk(context.Background(), id)
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
	o.bulkState(t, id, db.BulkDone)
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
	select {
	case <-provider.asked:
	case <-time.After(15 * time.Second):
		t.Fatal("nothing was refreshed")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := o.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	close(provider.answer)
	if err := engine.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	b, err := o.DB.Bulk(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	if b.State != db.BulkRunning || b.Done != 0 {
		t.Errorf("the bulk is %s with %v, and should go on in the next process", b.State, b.Outcomes)
	}
}
