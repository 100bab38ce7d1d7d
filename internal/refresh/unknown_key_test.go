package refresh_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// TestAGrantOfAKeyThatThisProcessLacksIsLeft has grants in every state that is due, sealed by a key of a process that is ahead, and one of
// the old key. The process that is behind refreshes the latter alone, and changes nothing of the others.
func TestAGrantOfAKeyThatThisProcessLacksIsLeft(t *testing.T) {
	base := dbtest.Make(t)
	clock := dbtest.NewClock(time.Now())
	behind := base.Open(t, pg.Options{Clock: clock.Clock, MaxConns: 8})
	base = base.Rotated(t)
	ahead := base.Open(t, pg.Options{Clock: clock.Clock, MaxConns: 8})
	w := &testEngine{T: t, partner: newPartner("acme"), clock: clock, db: ahead}
	engine := w.newEngine(behind)

	known := connect(t, behind, w.partner, "known", 48*time.Hour, &db.Merchant{})
	unknown := map[string]pg.ID{}
	for what, state := range map[string]string{
		"that is due":                      ``,
		"whose lease has lapsed":           `UPDATE grants SET lease_id = gen_random_uuid(), leased_until = $2 WHERE connection_id = $1`,
		"that has failed before":           `UPDATE grants SET failures = 3, last_outcome = 'temporary', refresh_at = $2 WHERE connection_id = $1`,
		"of a connection in trouble":       `UPDATE connections SET failing_since = $2, problem = 'unanswered', problem_since = $2 WHERE id = $1`,
		"that the provider said had ended": `INSERT INTO rechecks (connection_id, provider, environment, notified_at, due_at, done) VALUES ($1, 'acme', 'sandbox', $2, $2, 0)`,
	} {
		id := w.connect(what, 48*time.Hour)
		if state != "" {
			w.exec(state, id, clock.Now().Add(-time.Hour))
		}
		unknown[what] = id
	}
	late := connect(t, behind, w.partner, "late", 48*time.Hour, &db.Merchant{})
	unknown["whose late answer another key sealed"] = late
	r := w.grant(late)
	sealed, err := ahead.SealGrant(connectors.Grant{Token: connectors.Token{Access: "late", Refresh: "late-r1"}}, db.LateGrantPlace(late, r.Merchant, 1))
	if err != nil {
		t.Fatal(err)
	}
	w.exec(`UPDATE grants SET late_grant = $2, late_generation = 1 WHERE connection_id = $1`, late, sealed)

	rows := func() map[string]string {
		all := map[string]string{}
		for what, id := range unknown {
			one, err := pg.One(t.Context(), ahead.Pool, "read rows", pgx.RowTo[string], `
				SELECT concat_ws(E'\n', (SELECT g::text FROM grants g WHERE connection_id = $1), (SELECT c::text FROM connections c WHERE id = $1),
					(SELECT r::text FROM rechecks r WHERE connection_id = $1), (SELECT count(*) FROM events WHERE connection_id = $1))`, id)
			if err != nil {
				t.Fatal(err)
			}
			all[what] = one
		}
		return all
	}
	before := rows()
	for range 3 {
		if _, err := engine.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for what, id := range unknown {
		if _, err := engine.RefreshNow(t.Context(), id, audit.System); !errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("one %s, refreshed on demand: %v", what, err)
		}
		if _, err := engine.Fresh(t.Context(), id, 0, audit.System); !errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("one %s, read: %v", what, err)
		}
	}
	after := rows()
	for what := range unknown {
		got, want := after[what], before[what]
		if what == "whose lease has lapsed" {
			// Looking at it ends the lapsed lease, and the next process still knows that an answer was lost.
			if s := w.detail(unknown[what]); s.Failures != 0 || w.grant(unknown[what]).Attempt != 0 || !s.LeasedUntil.IsZero() || s.LastOutcome != "lost" {
				t.Errorf("one %s is now %+v", what, s)
			}
			continue
		}
		if got != want {
			t.Errorf("one %s was\n%s\nand is\n%s", what, want, got)
		}
	}
	if w.partner.callsOf("known") != 1 || behind.LacksKey() == 0 {
		t.Errorf("the one that this process can open was refreshed %d times; it lacks key %d", w.partner.callsOf("known"), behind.LacksKey())
	}
	for what := range unknown {
		if n := w.partner.callsOf(what) + w.partner.callsOf("late"); n != 0 {
			t.Errorf("of one %s %d calls were made", what, n)
		}
	}

	other := w.newEngine(ahead) // which refreshes them all
	if _, err := other.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	for what, id := range unknown {
		if c := w.detail(id); c.Problem != "" || w.grant(id).LastOutcome != "ok" {
			t.Errorf("one %s, where the key is known: %q, %q", what, c.Problem, w.grant(id).LastOutcome)
		}
	}
	if r := w.grant(known); r.LastOutcome != "ok" {
		t.Error(fmt.Sprint(r.LastOutcome))
	}
}
