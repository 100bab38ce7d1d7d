package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
)

func TestAllProcessesTogetherKeepToTheProvidersLimit(t *testing.T) {
	w := newTestEngine(t)
	base := dbtest.Make(t)
	w.db = base.Open(t, pg.Options{MaxConns: 8})
	const many = 60
	for n := range many {
		w.connect(fmt.Sprint("account", n), 48*time.Hour)
	}
	w.partner.set(func() { w.partner.delay = func(string) time.Duration { return 20 * time.Millisecond } })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	few := func(o *refresh.Options) { o.Slots, o.Tick = 4, 20*time.Millisecond }
	for range 3 {
		go w.newEngine(base.Open(t, pg.Options{MaxConns: 8}), few).Run(ctx)
	}
	readers := w.newEngine(w.db, few) // programs want theirs meanwhile
	for n := range 10 {
		id := w.connect(fmt.Sprint("wanted", n), 48*time.Hour)
		if _, err := readers.Fresh(ctx, id, refresh.Default, audit.System); err != nil {
			t.Errorf("a reader: %v", err)
		}
	}
	dbtest.Eventually(t, "every refresh", func() bool { return w.partner.all.Load() >= many+10 })
	if most := w.partner.most.Load(); most > 4 {
		t.Errorf("%d calls at once, 4 are allowed", most)
	}
	if n := w.partner.all.Load(); n != many+10 {
		t.Errorf("%d calls for %d needs", n, many+10)
	}
}

func TestALimitOnOurClientPausesTheProvider(t *testing.T) {
	w := newTestEngine(t)
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Retry-After", "300")
		rw.WriteHeader(http.StatusTooManyRequests)
	}))
	defer server.Close()
	c, err := standard(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	e := w.newEngine(w.db, func(o *refresh.Options) { o.Connectors = []connectors.Connector{c} })
	first := w.connect("first", 48*time.Hour)
	if _, err := e.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox")
	if pause := state.PausedUntil.Sub(w.db.Now()); err != nil || pause < 4*time.Minute || pause > 5*time.Minute {
		t.Errorf("paused for %s, %v", pause, err)
	}
	second := w.connect("second", 48*time.Hour)
	var trouble *refresh.ProviderTroubleError
	if _, err := e.Fresh(t.Context(), second, refresh.Default, audit.System); !errors.As(err, &trouble) || trouble.RetryAfter < 4*time.Minute {
		t.Errorf("a reader of another connection meanwhile: %v", err)
	}
	if w.status(first).Failures != 0 {
		t.Error("being asked to wait counts as a failure")
	}
}
