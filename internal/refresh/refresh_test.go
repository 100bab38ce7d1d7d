package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
)

// partner is a provider in a few lines: refresh tokens rotate, a spent one is refused, failures can be set.
type partner struct {
	info connectors.Info
	mu   sync.Mutex
	// live is the refresh token that each account may spend next; calls counts per account.
	live    map[string]string
	calls   map[string]int
	order   []string                   // accounts, as they were renewed
	answer  func(account string) error // an error instead of an answer
	delay   func(account string) time.Duration
	after   func(account string) error // the answer is made and then lost
	life    time.Duration
	refresh time.Duration // refresh lifetime told, 0: none
	keeps   bool          // refresh tokens do not rotate
	ends    bool          // a refresh token that is presented twice ends all that the account gave (RFC 9700 section 4.14.2)
	all     atomic.Int32
	now     atomic.Int32 // in flight
	most    atomic.Int32
}

func newPartner(name string) *partner {
	return &partner{
		info: connectors.Info{Name: name, Title: name, Environment: "sandbox", KeepAlive: 24 * time.Hour},
		live: map[string]string{}, calls: map[string]int{}, life: 15 * time.Minute,
	}
}

func (p *partner) Info() connectors.Info { return p.info }

func (p *partner) Refresh(ctx context.Context, g connectors.Grant) (connectors.Token, error) {
	p.all.Add(1)
	n := p.now.Add(1)
	defer p.now.Add(-1)
	for most := p.most.Load(); n > most && !p.most.CompareAndSwap(most, n); most = p.most.Load() {
	}
	account := g.Account.ID
	p.mu.Lock()
	answer, delay, after := p.answer, p.delay, p.after
	p.calls[account]++
	p.mu.Unlock()
	if delay != nil {
		select {
		case <-time.After(delay(account)):
		case <-ctx.Done():
			return connectors.Token{}, ctx.Err()
		}
	}
	if answer != nil {
		if err := answer(account); err != nil {
			return connectors.Token{}, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if live, known := p.live[account]; known && live != g.Token.Refresh {
		if p.ends {
			p.live[account] = "ended"
		}
		return connectors.Token{}, &connectors.RejectedError{Reason: "invalid_grant"}
	}
	next := fmt.Sprintf("%s-r%d", account, p.calls[account])
	if p.keeps {
		next = g.Token.Refresh
	}
	p.live[account] = next
	p.order = append(p.order, account)
	if after != nil {
		if err := after(account); err != nil {
			return connectors.Token{}, err
		}
	}
	return connectors.Token{Access: fmt.Sprintf("%s-a%d", account, p.calls[account]), Type: "Bearer", Lifetime: p.life, Refresh: next, RefreshLifetime: p.refresh}, nil
}

func (p *partner) set(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
}

func (p *partner) callsOf(account string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[account]
}

// testEngine is a database, an engine and a way to make connections.
type testEngine struct {
	*testing.T
	db      *db.DB
	engine  *refresh.Engine
	partner *partner
	clock   *dbtest.Clock
	owner   db.Merchant
}

func newTestEngine(t *testing.T, change ...func(*refresh.Options)) *testEngine {
	t.Helper()
	w := &testEngine{T: t, partner: newPartner("acme"), clock: dbtest.NewClock(time.Now())}
	w.db = dbtest.New(t, pg.Options{Clock: w.clock.Clock, MaxConns: 16})
	w.engine = w.newEngine(w.db, change...)
	return w
}

func (w *testEngine) newEngine(d *db.DB, change ...func(*refresh.Options)) *refresh.Engine {
	w.Helper()
	o := refresh.Options{DB: d, Connectors: []connectors.Connector{w.partner}, Log: slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelError}))}
	for _, do := range change {
		do(&o)
	}
	e := refresh.New(o)
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := e.Stop(ctx); err != nil {
			w.Errorf("stop: %v", err)
		}
	})
	return e
}

// run runs an engine until the test ends.
func run(t testing.TB, e *refresh.Engine) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { e.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		dbtest.Wait(t, &running, "an engine to end")
	})
}

// connect makes a connection that has worked for long, of a merchant of its own. Its token was obtained age ago.
func (w *testEngine) connect(account string, age time.Duration) pg.ID {
	w.Helper()
	w.owner = db.Merchant{} // each connection is another merchant's
	return connect(w.T, w.db, w.partner, account, age, &w.owner)
}

func connect(t testing.TB, d *db.DB, p *partner, account string, age time.Duration, owner *db.Merchant) pg.ID {
	t.Helper()
	ctx := t.Context()
	if owner.ID == (pg.ID{}) {
		m, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "CH168 Shop"})
		if err != nil {
			t.Fatal(err)
		}
		*owner = m
	}
	p.set(func() { p.live[account] = account + "-r0" })
	g := connectors.Grant{
		Token:   connectors.Token{Access: account + "-a0", Type: "Bearer", Lifetime: p.life, Refresh: account + "-r0", RefreshLifetime: p.refresh},
		Account: connectors.Account{ID: account, Name: account},
	}
	id, err := d.AddConnection(ctx, owner.ID, p.info.Name, p.info.Environment, g, d.Now().Add(-age), p.Info())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Pool.Exec(ctx, `UPDATE connections SET connected_at = connected_at - interval '30 days' WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	return id
}

func TestFreshRefreshesOnceForAllWhoAsk(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", time.Hour)
	w.partner.set(func() { w.partner.delay = func(string) time.Duration { return 50 * time.Millisecond } })
	var all sync.WaitGroup
	for range 40 {
		all.Go(func() {
			r, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System)
			if err != nil || r.Token.Access != "a-a1" || r.Token.Refresh != "" {
				t.Errorf("got %q, %v", r.Token.Access, err)
			}
		})
	}
	dbtest.Wait(t, &all, "the callers")
	if n := w.partner.callsOf("a"); n != 1 {
		t.Errorf("%d calls for one need", n)
	}
	if _, err := w.engine.Fresh(t.Context(), id, 13*time.Minute, audit.System); !isTooLong(err) {
		t.Errorf("over 80 %% of the lifetime: %v", err)
	}
}

func isTooLong(err error) bool {
	var long *refresh.MinValidTooLongError
	return errors.As(err, &long)
}
