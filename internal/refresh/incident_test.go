package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

func TestSixHoursOfOutageCostNobodyAnything(t *testing.T) {
	w := newTestEngine(t, func(o *refresh.Options) { o.Slots = 32 })
	w.partner.life = time.Hour
	const many = 1000
	ids := w.connectMany(many, 55*time.Minute)
	w.partner.set(func() { w.partner.answer = always(errTrouble) })
	end := w.clock.Now().Add(6 * time.Hour)
	for w.clock.Now().Before(end) {
		w.sweep()
		w.clock.Advance(30 * time.Second)
	}
	state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox")
	if err != nil || state.IncidentSince.IsZero() || state.Reason != status.ReasonTemporary {
		t.Fatalf("no incident: %+v, %v", state, err)
	}
	if calls := w.partner.all.Load(); calls > 32+6*60+60 {
		t.Errorf("%d calls to a provider that is down", calls)
	}
	var trouble *refresh.ProviderUnavailableError
	if _, err := w.engine.Fresh(t.Context(), ids[many-1], refresh.DefaultValidity, audit.System); !errors.As(err, &trouble) || !trouble.Incident {
		t.Errorf("a reader during the incident: %v", err)
	}
	worst := 0
	for _, id := range ids {
		s := w.detail(id)
		worst = max(worst, s.Failures)
	}
	if worst > 2 {
		t.Errorf("a connection counts %d failures", worst)
	}
	counts, err := w.db.Counts(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range counts {
		if c.Health == status.ActionNeeded {
			t.Errorf("%d connections need action", c.Connections)
		}
		if c.Health == status.Retrying && c.Connections > 64 {
			t.Errorf("%d connections are shown as retrying, one by one", c.Connections)
		}
	}

	// It answers again: the probe finds out, and what is due is drained, the soonest to expire first, at a bounded pace.
	w.partner.set(func() { w.partner.answer = nil })
	w.partner.most.Store(0)
	w.clock.Advance(2 * time.Minute)
	w.sweep() // the probe
	w.partner.set(func() { w.partner.order = nil })
	w.sweep()
	if most := w.partner.most.Load(); most > 8 {
		t.Errorf("%d calls at once right after an incident", most)
	}
	for _, id := range ids {
		if s := w.detail(id); s.Failures != 0 || s.LastOutcome != status.OK || !s.ExpiresAt.After(w.clock.Now()) {
			t.Fatalf("a connection did not come back: %+v", s)
		}
	}
	var order []string
	w.partner.set(func() { order = w.partner.order })
	for i := 16; i < len(order); i++ { // eight at a time may overtake each other
		if order[i] < order[i-16] {
			t.Fatalf("%s was renewed after %s, which expires later", order[i], order[i-16])
		}
	}
}

// TestAnOutageThatSaysWhenToComeBackIsAnOutage: 503 with Retry-After: 2 from a provider that is down for everybody.
func TestAnOutageThatSaysWhenToComeBackIsAnOutage(t *testing.T) {
	w := newTestEngine(t)
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		rw.Header().Set("Retry-After", "2")
		rw.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	c, err := standard(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	e := w.newEngine(w.db, func(o *refresh.Options) { o.Connectors = []connectors.Connector{c} })
	var ids []pg.ID
	for n := range 4 {
		ids = append(ids, w.connect(fmt.Sprint("account", n), 25*time.Hour))
	}
	for range 70 {
		if _, err := e.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.clock.Advance(time.Second)
	}
	if n := calls.Load(); n > 4*2+2 { // each at once and after half a minute, and the probes
		t.Errorf("%d calls in 70 seconds", n)
	}
	if s := w.detail(ids[0]); s.Failures == 0 {
		t.Error("the connection is thought to be fine")
	}
	if state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox"); err != nil || state.Reason != status.ReasonTemporary {
		t.Errorf("no incident: %+v, %v", state, err)
	}
}

// TestAskedToWaitIsNoEvidence: a busy hour before an outage must not hide it.
func TestAskedToWaitIsNoEvidence(t *testing.T) {
	w := newTestEngine(t)
	var ids []pg.ID
	for n := range 4 {
		ids = append(ids, w.connect(fmt.Sprint("account", n), 25*time.Hour))
	}
	w.partner.set(func() { w.partner.answer = always(&connectors.RateLimitedError{RetryAfter: time.Second}) })
	for range 5 {
		for _, id := range ids {
			if out, err := w.engine.RefreshNow(t.Context(), id, audit.System); err != nil || out.Outcome != status.RateLimited {
				t.Fatalf("%s, %v", out.Outcome, err)
			}
		}
	}
	reason := func() status.Reason {
		state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox")
		if err != nil {
			t.Fatal(err)
		}
		return state.Reason
	}
	w.partner.set(func() { w.partner.answer = always(errTrouble) })
	for i, id := range append(ids, ids[0]) { // the fifth attempt in trouble makes it
		if reason() != "" {
			t.Fatalf("an incident after %d attempts in trouble", i)
		}
		if _, err := w.engine.RefreshNow(t.Context(), id, audit.System); err != nil {
			t.Fatal(err)
		}
	}
	if reason() != "trouble" {
		t.Error("twenty requests to wait hid an outage")
	}
}

// connectMany makes connections named in the order in which their tokens expire.
func (w *testEngine) connectMany(n int, age time.Duration) []pg.ID {
	w.Helper()
	ids := make([]pg.ID, n)
	for i := range ids {
		ids[i] = w.connect(fmt.Sprintf("account%04d", i), age-time.Duration(i)*time.Second/2)
	}
	var uses []refresh.Use
	for _, id := range ids { // somebody uses them all
		uses = append(uses, refresh.Use{Connection: id, At: w.db.Now().Add(6 * time.Hour), RefreshAt: w.db.Now()})
	}
	if err := w.engine.MarkUsed(w.Context(), uses); err != nil {
		w.Fatal(err)
	}
	return ids
}

func TestTheDayOfUseIsKeptWithTheConnection(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", time.Hour)
	for _, ago := range []time.Duration{0, 48 * time.Hour} {
		at := w.db.Now().Add(-ago)
		if err := w.engine.MarkUsed(t.Context(), []refresh.Use{{Connection: id, At: at}}); err != nil {
			t.Fatal(err)
		}
		var day time.Time
		if err := w.db.Pool.QueryRow(t.Context(), `SELECT used_on FROM connections WHERE id = $1`, id).Scan(&day); err != nil {
			t.Fatal(err)
		}
		if want := at.UTC().Truncate(24 * time.Hour); !day.Equal(want) {
			t.Errorf("used on %s, want %s", day, want)
		}
	}
}

func TestAnIncidentIsDeclaredAndEndedByAnAdmin(t *testing.T) {
	w := newTestEngine(t)
	id := w.connect("a", 25*time.Hour)
	admin := audit.Actor{Role: audit.RoleAdmin, ID: pg.NewID()}
	if err := w.engine.OpenIncident(t.Context(), "acme", status.ReasonDeclared, admin); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		w.sweep()
		w.clock.Advance(time.Minute)
	}
	if w.partner.callsOf("a") != 0 {
		t.Error("a declared incident did not stop the sweep")
	}
	if out, err := w.engine.RefreshNow(t.Context(), id, admin); err != nil || out.Outcome != status.OK {
		t.Errorf("refresh now: %s, %v", out.Outcome, err)
	}
	if state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox"); err != nil || state.Reason != status.ReasonDeclared {
		t.Errorf("one good answer ended what an admin declared: %+v, %v", state, err)
	}
	if err := w.engine.EndIncident(t.Context(), "acme", admin); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(25 * time.Hour)
	if w.sweep() != 1 {
		t.Error("the sweep does not go on")
	}
	if err := w.engine.OpenIncident(t.Context(), "nobody", status.ReasonDeclared, admin); !errors.Is(err, pg.ErrNotFound) {
		t.Errorf("an unknown provider: %v", err)
	}
}

// TestWhatIsKnownOfOneConnectionIsNoIncident: a grant with nothing to renew it with is refused by ourselves, without a call, and
// access that the provider said has ended is that merchant's matter. Neither makes an incident, nor hides in one.
func TestWhatIsKnownOfOneConnectionIsNoIncident(t *testing.T) {
	w := newTestEngine(t)
	ids := w.connectMany(4, 25*time.Hour)
	w.partner.set(func() { w.partner.answer = always(&connectors.RejectedError{Reason: "no-refresh-token", Unsent: true}) })
	w.sweep()
	if state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox"); err != nil || !state.IncidentSince.IsZero() {
		t.Errorf("incident %+v, %v", state, err)
	}
	for _, id := range ids {
		if r := w.grant(id); r.Problem != status.ProblemLapsed {
			t.Errorf("problem %q", r.Problem)
		}
	}

	ended, suspected := w.connect("ended", time.Hour), w.connect("suspected", time.Hour)
	if err := w.engine.OpenIncident(t.Context(), "acme", status.ReasonDeclared, audit.System); err != nil {
		t.Fatal(err)
	}
	if err := w.engine.RecheckAccount(t.Context(), "acme", "ended"); err != nil {
		t.Fatal(err)
	}
	w.partner.set(func() { w.partner.answer = always(&connectors.RejectedError{Reason: "invalid_grant"}) })
	for id, want := range map[pg.ID]status.Problem{ended: status.ProblemRevoked, suspected: ""} {
		if _, err := w.engine.RefreshNow(t.Context(), id, audit.System); err != nil {
			t.Fatal(err)
		}
		if r := w.grant(id); r.Problem != want {
			t.Errorf("problem %q, want %q", r.Problem, want)
		}
	}
	// While it is our own key that is suspected, not even that is believed.
	if _, err := w.db.Pool.Exec(t.Context(), `UPDATE providers SET incident_reason = $1 WHERE name = 'acme'`, status.ReasonClientRejected); err != nil {
		t.Fatal(err)
	}
	accused := w.connect("accused", time.Hour)
	if err := w.engine.RecheckAccount(t.Context(), "acme", "accused"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.engine.RefreshNow(t.Context(), accused, audit.System); err != nil {
		t.Fatal(err)
	}
	if r := w.grant(accused); r.Problem != "" {
		t.Errorf("problem %q while our key is suspected", r.Problem)
	}
}

// TestAnIncidentIsWhatSeveralMerchantsMeet tries who fails, and how: only formerly working connections of several merchants count.
func TestAnIncidentIsWhatSeveralMerchantsMeet(t *testing.T) {
	no := always(&connectors.RejectedError{Reason: "invalid_grant"})
	ours := always(&connectors.RejectedError{Reason: "invalid_client", ClientFault: true})
	const (
		worked = ""
		never  = `UPDATE connections SET connected_at = now() + interval '1 minute' WHERE id = $1`
		failed = `UPDATE connections SET failing_since = now() - interval '3 days' WHERE id = $1`
		moved  = `UPDATE connections SET merchant_id = (SELECT merchant_id FROM connections ORDER BY id LIMIT 1) WHERE id = $1`
	)
	for name, c := range map[string]struct {
		connections int
		answer      func(string) error
		before      string // what is true of each connection
		want        status.Reason
	}{
		"trouble of four merchants":                        {4, always(errTrouble), worked, status.ReasonTemporary},
		"trouble of the only two":                          {2, always(errTrouble), worked, status.ReasonTemporary},
		"trouble of the only one":                          {1, always(errTrouble), worked, ""},
		"trouble of one merchant's four":                   {4, always(errTrouble), moved, ""},
		"trouble of four that never worked":                {4, always(errTrouble), never, ""},
		"trouble of four that have failed for days":        {4, always(errTrouble), failed, ""},
		"three merchants refused":                          {3, no, worked, status.ReasonClientRejected},
		"one merchant refused four times":                  {4, no, moved, ""},
		"four refused that never worked":                   {4, no, never, ""},
		"four refused that had failed for days":            {4, no, failed, ""},
		"our client rejected for two":                      {2, ours, worked, status.ReasonClientRejected},
		"our client rejected for one merchant's four":      {4, ours, moved, ""},
		"our client rejected for four that never worked":   {4, ours, never, ""},
		"our client rejected for the only one there is":    {1, ours, worked, ""},
		"an answer that is not understood, for four":       {4, always(&connectors.UnreadableError{Reason: "no-token"}), worked, status.ReasonTemporary},
		"an answer that is not understood, for one's four": {4, always(&connectors.UnreadableError{Reason: "no-token"}), moved, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTestEngine(t)
			var ids []pg.ID
			for n := range c.connections {
				id := w.connect(fmt.Sprint("account", n), time.Hour)
				if c.before != worked {
					w.exec(c.before, id)
				}
				ids = append(ids, id)
			}
			w.partner.set(func() { w.partner.answer = c.answer })
			for range 5 {
				for _, id := range ids {
					if _, err := w.engine.RefreshNow(t.Context(), id, audit.System); err != nil {
						t.Fatal(err)
					}
				}
				w.clock.Advance(10 * time.Second)
			}
			if state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox"); err != nil || state.Reason != c.want {
				t.Errorf("incident %q, %v; want %q", state.Reason, err, c.want)
			}
		})
	}
}

// TestABusyProviderThatHangsOpensAnIncident: what worked in the five minutes before does not outweigh that nothing works now.
func TestABusyProviderThatHangsOpensAnIncident(t *testing.T) {
	w := newTestEngine(t)
	ids := w.connectMany(20, time.Hour)
	refreshAll := func() {
		for _, id := range ids {
			w.refreshNow(id)
			w.clock.Advance(time.Second)
		}
	}
	for range 3 {
		refreshAll()
	}
	w.partner.set(func() { w.partner.answer = always(errTrouble) })
	refreshAll()
	if state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox"); err != nil || state.Reason != status.ReasonTemporary {
		t.Errorf("incident %q, %v", state.Reason, err)
	}
}

// TestWaitingForAProviderThatHangsIsBounded: in time, by the caller's own deadline and by ours.
func TestWaitingForAProviderThatHangsIsBounded(t *testing.T) {
	w := newTestEngine(t, func(o *refresh.Options) { o.Slots, o.Deadline, o.Term = 1, 500*time.Millisecond, 3*time.Second })
	ids := w.connectMany(3, time.Hour)
	w.partner.set(func() { w.partner.delay = func(string) time.Duration { return time.Hour } })
	var all sync.WaitGroup
	for _, id := range ids {
		all.Go(func() {
			_, err := w.engine.RefreshNow(t.Context(), id, audit.System)
			var trouble *refresh.ProviderUnavailableError
			if err != nil && (!errors.As(err, &trouble) || trouble.RetryAfter <= 0) {
				t.Errorf("%v", err)
			}
		})
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := w.engine.Fresh(short, ids[0], refresh.DefaultValidity, audit.System); err == nil {
		t.Error("a caller with a deadline of 50 ms got a token")
	}
	dbtest.Wait(t, &all, "the callers")
}

// TestAProbePrefersWhatWasRefreshedLast: after a restore the grants refreshed before the copy was made are the ones that still work.
func TestAProbePrefersWhatWasRefreshedLast(t *testing.T) {
	w := newTestEngine(t)
	for n := range 12 { // their refresh tokens were spent after the copy
		account := fmt.Sprint("dead", n)
		w.connect(account, 48*time.Hour)
		w.partner.set(func() { w.partner.live[account] = "another" })
	}
	w.connect("healthy", time.Minute)
	w.sweep()
	state, err := w.engine.ProviderState(t.Context(), "acme", "sandbox")
	if err != nil || state.Reason != status.ReasonClientRejected {
		t.Fatalf("incident %q, %v", state.Reason, err)
	}
	for range 6 {
		w.clock.Advance(31 * time.Second)
		w.sweep()
		if state, err = w.engine.ProviderState(t.Context(), "acme", "sandbox"); err != nil {
			t.Fatal(err)
		}
		if state.IncidentSince.IsZero() {
			break
		}
	}
	if !state.IncidentSince.IsZero() {
		t.Errorf("after six probes the incident is open; the healthy one was asked %d times", w.partner.callsOf("healthy"))
	}
}
