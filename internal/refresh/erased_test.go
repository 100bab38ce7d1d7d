package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
)

// revoking is a partner that ends access, and that keeps its answers to some accounts until it is let go.
type revoking struct {
	*partner
	held    map[string]bool
	reached chan string
	release chan struct{}
	revoked map[string]bool // access tokens
}

func (r *revoking) Refresh(ctx context.Context, g connectors.Grant) (connectors.Token, error) {
	if strings.HasPrefix(g.Account.ID, "before") { // the provider has not rotated anything yet
		r.hold(ctx, g.Account.ID)
	}
	token, err := r.partner.Refresh(ctx, g)
	if !strings.HasPrefix(g.Account.ID, "before") {
		r.hold(ctx, g.Account.ID)
	}
	return token, err
}

func (r *revoking) hold(ctx context.Context, account string) {
	r.mu.Lock()
	held := r.held[account]
	delete(r.held, account)
	r.mu.Unlock()
	if !held {
		return
	}
	r.reached <- account
	select {
	case <-r.release:
	case <-ctx.Done():
	}
}

func (r *revoking) Revoke(_ context.Context, g connectors.Grant) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.revoked[g.Access] = true
	return nil
}

func newErased(t *testing.T, lines *dbtest.Log, level slog.Level) (*testEngine, *revoking, func(*refresh.Options)) {
	w := &testEngine{T: t, partner: newPartner("acme"), clock: dbtest.NewClock(time.Now())}
	w.db = dbtest.New(t, pg.Options{Clock: w.clock.Clock, MaxConns: 16})
	r := &revoking{partner: w.partner, held: map[string]bool{}, reached: make(chan string, 100), release: make(chan struct{}), revoked: map[string]bool{}}
	change := func(o *refresh.Options) {
		o.Connectors = []connectors.Connector{r}
		o.Log = slog.New(slog.NewTextHandler(lines, &slog.HandlerOptions{Level: level}))
		o.Tick = 10 * time.Millisecond
	}
	w.engine = w.newEngine(w.db, change)
	return w, r, change
}

// isGone checks that nothing of an erased merchant is there, and that nothing is held for it.
func (w *testEngine) isGone(names ...string) {
	w.Helper()
	for what, sql := range map[string]string{
		"connections of erased merchants": `SELECT count(*) FROM connections c WHERE NOT EXISTS (SELECT FROM merchants m WHERE m.id = c.merchant_id)`,
		"grants of no connection":         `SELECT count(*) FROM grants g WHERE NOT EXISTS (SELECT FROM connections c WHERE c.id = g.connection_id)`,
		"leases":                          `SELECT count(*) FROM grants WHERE lease_id IS NOT NULL`,
		"slots that are held":             `SELECT count(*) FROM provider_slots WHERE lease_id IS NOT NULL`,
		"incidents":                       `SELECT count(*) FROM providers WHERE incident_since IS NOT NULL OR paused_until IS NOT NULL`,
		"events with words":               `SELECT count(*) FROM events e JOIN erasures r ON r.merchant_id = e.merchant_id WHERE e.note <> '' OR e.code <> '' OR e.address <> ''`,
	} {
		if n, err := pg.One(w.Context(), w.db.Pool, what, pgx.RowTo[int], sql); err != nil || n != 0 {
			w.Errorf("%d %s, %v", n, what, err)
		}
	}
	for line := range strings.Lines(dbtest.Dump(w.T, w.db)) {
		for _, name := range names {
			if strings.Contains(line, name) {
				w.Errorf("%q came back: %s", name, line)
			}
		}
	}
}

// TestAMerchantIsErasedWhileTheirGrantsAreAtTheProvider erases while the provider has been asked and has not answered, in every way in which it
// then answers, for the sweep, for programs and people who wait, and for those who ask while it is under way or afterwards.
func TestAMerchantIsErasedWhileTheirGrantsAreAtTheProvider(t *testing.T) {
	lines := &dbtest.Log{}
	w, p, change := newErased(t, lines, slog.LevelWarn)
	other := w.newEngine(w.db, change) // another process
	ctx := t.Context()
	answers := map[string]error{
		"good": nil, "rejected": &connectors.RejectedError{Reason: "invalid_grant"}, "ours": &connectors.RejectedError{Reason: "invalid_client", ClientFault: true},
		"limited": &connectors.RateLimitedError{RetryAfter: time.Minute}, "trouble": &connectors.TemporaryError{Reason: connectors.ReasonBusy},
		"odd": &connectors.UnreadableError{Reason: connectors.ReasonUnreadable},
	}
	p.set(func() {
		p.answer = func(account string) error { return answers[account[strings.LastIndex(account, "-")+1:]] }
	})
	stays, leaves := db.Merchant{}, db.Merchant{}
	kept := connect(t, w.db, p.partner, "before-kept-good", 48*time.Hour, &stays)
	p.held["before-kept-good"] = true
	ids := map[string]pg.ID{}
	for answer := range answers {
		for _, when := range []string{"before", "after"} {
			for _, who := range []string{"swept", "wanted", "read"} {
				account := when + "-" + who + "-" + answer
				age := 48 * time.Hour
				if who != "swept" {
					age = 0 // not due
				}
				ids[account] = connect(t, w.db, p.partner, account, age, &leaves)
				p.held[account] = true
			}
		}
	}
	// What is shown by more than the grant: an attempt that ended without an outcome, a notice of the provider's, a trouble.
	w.exec(`UPDATE grants SET last_outcome = 'lost' WHERE connection_id = $1`, ids["after-swept-good"])
	w.exec(`UPDATE grants SET failures = 2, last_outcome = 'trouble' WHERE connection_id = $1`, ids["before-swept-good"])
	w.exec(`INSERT INTO rechecks (connection_id, provider, environment, notified_at, due_at, done) VALUES ($1, 'acme', 'sandbox', $2, $3, 1)`, ids["after-wanted-rejected"], w.clock.Now(), w.clock.Now().Add(time.Hour))
	for account, id := range ids {
		if strings.Contains(account, "-read-") {
			w.exec(`UPDATE grants SET expires_at = $2 WHERE connection_id = $1`, id, w.clock.Now())
		}
	}

	var asked sync.WaitGroup
	asked.Go(func() {
		if _, err := w.engine.Sweep(ctx); err != nil {
			t.Errorf("sweep: %v", err)
		}
	})
	for range 1 + 2*len(answers) { // the sweep's have all been claimed before others take slots
		dbtest.Receive(t, p.reached, "a call")
	}
	ask := func(e *refresh.Engine, account string) {
		asked.Go(func() {
			r, err := e.Fresh(ctx, ids[account], refresh.DefaultValidity, audit.System)
			if !errors.Is(err, pg.ErrNotFound) || r.Token.Refresh != "" {
				t.Errorf("%s, read: %v", account, err)
			}
		})
	}
	want := func(account string) {
		asked.Go(func() {
			out, err := w.engine.RefreshNow(ctx, ids[account], audit.System)
			if answers[account[strings.LastIndex(account, "-")+1:]] == nil && !errors.Is(err, pg.ErrNotFound) {
				t.Errorf("%s, refreshed: %+v, %v", account, out, err)
			}
		})
	}
	groups := 0
	for account := range ids {
		switch {
		case strings.Contains(account, "-read-"):
			ask(w.engine, account)
			ask(w.engine, account)
		case strings.Contains(account, "-wanted-"):
			want(account)
			want(account)
		default:
			continue
		}
		groups++
	}
	for range min(groups, 32-1-2*len(answers)) { // as many as there are slots
		dbtest.Receive(t, p.reached, "a call")
	}
	for account := range ids {
		if strings.Contains(account, "swept") {
			w.exec(`UPDATE grants SET expires_at = $2 WHERE connection_id = $1`, ids[account], w.clock.Now())
			ask(other, account) // it waits for the lease of the first process
		}
	}
	if err := w.db.EraseMerchant(ctx, audit.System, leaves.ID); err != nil {
		t.Fatal(err)
	}
	for account, id := range ids {
		if _, err := other.Fresh(ctx, id, refresh.DefaultValidity, audit.System); !errors.Is(err, pg.ErrNotFound) {
			t.Errorf("%s, asked for afterwards: %v", account, err)
		}
	}
	close(p.release)
	dbtest.Wait(t, &asked, "the calls")
	if n, err := other.Sweep(ctx); n != 0 || err != nil {
		t.Errorf("a sweep afterwards makes %d attempts, %v", n, err)
	}
	if err := w.db.EmptyEvents(ctx, leaves.ID); err != nil {
		t.Fatal(err)
	}
	var names []string
	for account := range ids {
		names = append(names, account)
		if strings.HasSuffix(account, "-good") && p.callsOf(account) > 0 && !p.revoked[account+"-a1"] {
			t.Errorf("%s: the token that came after the erasure was not revoked", account)
		}
	}
	w.isGone(append(names, "invalid_")...)
	if r, err := w.engine.Fresh(ctx, kept, refresh.DefaultValidity, audit.System); err != nil || r.Token.Access != "before-kept-good-a1" || p.revoked[r.Token.Access] {
		t.Errorf("the other merchant's token is %q, %v", r.Token.Access, err)
	}
	if err := w.engine.Flush(ctx); err != nil {
		t.Errorf("what was used: %v", err)
	}
	if got := lines.String(); got != "" {
		t.Errorf("the log has\n%s", got)
	}
}

// TestErasuresRaceWithRefreshes erases merchants at any moment of the refreshes of all their grants.
func TestErasuresRaceWithRefreshes(t *testing.T) {
	lines := &dbtest.Log{}
	w, p, change := newErased(t, lines, slog.LevelError)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	p.set(func() {
		p.life = 15 * time.Minute
		p.delay = func(string) time.Duration { return rand.N(5 * time.Millisecond) }
	})
	const merchants, each = 12, 6
	owners, ids := make([]db.Merchant, merchants), make([][]pg.ID, merchants)
	for m := range merchants {
		for n := range each {
			ids[m] = append(ids[m], connect(t, w.db, p.partner, fmt.Sprintf("leaver%d-%d", m, n), 48*time.Hour, &owners[m]))
		}
	}
	stays := db.Merchant{}
	var kept []pg.ID
	for n := range each {
		kept = append(kept, connect(t, w.db, p.partner, fmt.Sprint("kept", n), 48*time.Hour, &stays))
	}
	var running, asking sync.WaitGroup
	for range 2 {
		e := w.newEngine(w.db, change)
		running.Go(func() { e.Run(ctx) })
	}
	for m := range merchants {
		for _, id := range append(ids[m], kept...) {
			asking.Go(func() {
				for range 5 {
					_, err := w.engine.Fresh(ctx, id, 10*time.Minute, audit.System)
					var trouble *refresh.ProviderUnavailableError
					if err != nil && !errors.Is(err, pg.ErrNotFound) && !errors.As(err, &trouble) {
						t.Errorf("read: %v", err)
					}
					if _, err := w.engine.RefreshNow(ctx, id, audit.System); err != nil && !errors.Is(err, pg.ErrNotFound) && !errors.As(err, &trouble) {
						t.Errorf("refresh: %v", err)
					}
				}
			})
		}
		asking.Go(func() {
			time.Sleep(rand.N(100 * time.Millisecond))
			if err := w.db.EraseMerchant(ctx, audit.System, owners[m].ID); err != nil {
				t.Errorf("erase: %v", err)
			}
		})
	}
	dbtest.Wait(t, &asking, "the callers")
	cancel()
	dbtest.Wait(t, &running, "the engines to stop")
	stop, done := context.WithTimeout(t.Context(), 10*time.Second)
	defer done()
	if err := w.engine.Stop(stop); err != nil {
		t.Error(err)
	}
	for m := range merchants {
		if err := w.db.EmptyEvents(t.Context(), owners[m].ID); err != nil {
			t.Fatal(err)
		}
	}
	w.isGone("leaver")
	for _, id := range kept {
		if r := w.grant(id); r.LastOutcome != "ok" || r.Problem != "" {
			t.Errorf("one of the other merchant is %q, %q", r.LastOutcome, r.Problem)
		}
	}
	if got := lines.String(); got != "" {
		t.Errorf("the log has\n%s", got)
	}
}
