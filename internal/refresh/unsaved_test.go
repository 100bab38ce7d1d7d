package refresh_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

// TestNoClaimWithoutASave has saves fail under load, in two processes' engines, in ways that let claims through. Nothing goes on being
// claimed, and once it is mended every answer is kept: no refresh token, which rotate, is spent twice or lost.
func TestNoClaimWithoutASave(t *testing.T) {
	raises := `CREATE FUNCTION broken() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION USING ERRCODE = '%s', MESSAGE = 'broken'; END $$;
		CREATE TRIGGER broken BEFORE %s FOR EACH ROW %s EXECUTE FUNCTION broken()`
	for name, c := range map[string]struct{ break_, mend string }{
		"a right on events is missing": {fmt.Sprintf(raises, "42501", "INSERT ON events", ""), `DROP FUNCTION broken CASCADE`},
		"the disk is full":             {fmt.Sprintf(raises, "53100", "INSERT ON events", ""), `DROP FUNCTION broken CASCADE`},
		"grants cannot be saved":       {fmt.Sprintf(raises, "P0001", "UPDATE OF sealed ON grants", "WHEN (NEW.generation > OLD.generation)"), `DROP FUNCTION broken CASCADE`},
		"slots cannot be freed":        {fmt.Sprintf(raises, "P0001", "UPDATE ON provider_slots", "WHEN (NEW.lease_id IS NULL)"), `DROP FUNCTION broken CASCADE`},
		"a month has no table":         {`ALTER TABLE events RENAME TO events_kept; CREATE TABLE events (LIKE events_kept INCLUDING ALL) PARTITION BY RANGE (at)`, `DROP TABLE events; ALTER TABLE events_kept RENAME TO events`},
		"a column is gone":             {`ALTER TABLE grants RENAME COLUMN saved_by TO other`, `ALTER TABLE grants RENAME COLUMN other TO saved_by`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTestReplicas(t, dbtest.Make(t))
			w.provider.delay.Store(int64(20 * time.Millisecond))
			w.provider.life.Store(2) // always something due
			accounts := map[string]pg.ID{}
			for n := range 40 {
				account := fmt.Sprint("account", n)
				accounts[account] = w.connect(account, 48*time.Hour)
			}
			w.keepUsed(accounts)
			idle := w.connect("idle", 0)
			const slots = 6 // of all processes
			var engines []*refresh.Engine
			for range 2 {
				c, err := standard(w.provider.URL)
				if err != nil {
					t.Fatal(err)
				}
				e := refresh.New(refresh.Options{DB: w.base.Open(t), Connectors: []connectors.Connector{c}, Log: slog.New(slog.DiscardHandler), Slots: slots, Tick: 50 * time.Millisecond})
				run(t, e)
				t.Cleanup(func() { _ = e.Stop(t.Context()) }) // it was stopped below
				engines = append(engines, e)
			}
			calls := func() int {
				w.provider.mu.Lock()
				defer w.provider.mu.Unlock()
				return w.provider.calls
			}
			dbtest.Eventually(t, "load", func() bool { return calls() > 60 })
			// Both change tables that are in use, whose locks saves take in another order.
			change := func(sql string) {
				if err := w.db.RetryOnDeadlock(t.Context(), func(tx pgx.Tx) error { _, err := tx.Exec(t.Context(), sql); return err }); err != nil {
					t.Fatal(err)
				}
			}
			change(c.break_)
			var stopped []*refresh.Engine
			dbtest.Eventually(t, "the answers of all that is leased, and nothing more to be claimed", func() bool {
				stopped = slices.DeleteFunc(slices.Clone(engines), func(e *refresh.Engine) bool { return !errors.Is(e.CheckSaves(t.Context()), refresh.ErrUnsaved) })
				leased := len(w.leased())
				return int(unsaved(t, engines[0])+unsaved(t, engines[1])) == leased && len(stopped) > 0 && (len(stopped) == len(engines) || leased == slots)
			})
			before := calls()
			if _, err := stopped[0].RefreshNow(t.Context(), idle, audit.System); !errors.Is(err, refresh.ErrUnsaved) { // on demand neither
				t.Errorf("a refresh on demand: %v", err)
			}
			for range 5 {
				for _, e := range engines {
					if n, err := e.Poll(t.Context()); n > 0 && err == nil {
						t.Errorf("%d attempts were begun", n)
					}
				}
			}
			if after := calls(); after != before {
				t.Errorf("%d calls although no answer is saved", after-before)
			}
			if held := unsaved(t, engines[0]) + unsaved(t, engines[1]); held > 12 {
				t.Errorf("%v answers are held", held)
			}
			change(c.mend)
			dbtest.Eventually(t, "the engines to go on", func() bool { return calls() > before+40 })
			for _, e := range engines {
				if err := e.Stop(t.Context()); err != nil {
					t.Error(err)
				}
				if n := unsaved(t, e); n != 0 {
					t.Errorf("%v answers are held at the end", n)
				}
			}
			w.provider.mu.Lock()
			defer w.provider.mu.Unlock()
			if len(w.provider.twice) > 0 {
				t.Errorf("spent twice: %v", w.provider.twice)
			}
			for account, id := range accounts {
				r, err := w.db.ReadGrant(t.Context(), id)
				if err != nil || r.Token.Access != "access-"+w.provider.live[account] || r.Problem != "" {
					t.Errorf("%s holds %s, the provider gave %s; problem %q, %v", account, r.Token.Access, w.provider.live[account], r.Problem, err)
				}
			}
		})
	}
}

// unsaved is the gauge of /metrics.
func unsaved(t *testing.T, e *refresh.Engine) float64 {
	t.Helper()
	families := prometheus.NewRegistry()
	families.MustRegister(e.Metrics)
	all, err := families.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() == "patchbay_unsaved_answers" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatal("no patchbay_unsaved_answers")
	return 0
}

// TestOneAnswerThatCannotBeStoredStopsNoOther: a fault of what is in an answer is no fault of the database.
func TestOneAnswerThatCannotBeStoredStopsNoOther(t *testing.T) {
	w := newTestEngine(t)
	odd, well := w.connect("odd", time.Hour), w.connect("well", time.Hour)
	w.exec(`CREATE SEQUENCE refused; CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('refused'); RAISE EXCEPTION USING ERRCODE = '22003', MESSAGE = 'out of range'; END $$`)
	w.exec(fmt.Sprintf(`CREATE TRIGGER odd BEFORE UPDATE OF sealed ON grants FOR EACH ROW WHEN (NEW.generation > OLD.generation AND NEW.connection_id = '%s') EXECUTE FUNCTION odd()`, odd))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = w.engine.RefreshNow(t.Context(), odd, audit.System)
	}()
	dbtest.Eventually(t, "a save that fails", func() (failed bool) { // a sequence is not rolled back
		if err := w.db.Pool.QueryRow(t.Context(), `SELECT is_called FROM refused`).Scan(&failed); err != nil {
			t.Fatal(err)
		}
		return failed
	})
	if out := w.refreshNow(well); out.Outcome != status.OK {
		t.Errorf("another connection: %s", out.Outcome)
	}
	w.exec(`DROP FUNCTION odd CASCADE`)
	dbtest.Receive(t, done, "the end of the refresh")
	if r := w.grant(odd); r.Token.Access != "odd-a1" {
		t.Errorf("the odd answer was lost: %s", r.Token.Access)
	}
}
