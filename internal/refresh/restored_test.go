package refresh_test

import (
	"fmt"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

// restored is a database with an hour of rotating refreshes that it lost by a restore: of eight merchants' connections six were
// refreshed meanwhile. noticed: as in a copy; otherwise nothing tells that it was restored.
func restored(t *testing.T, noticed bool) (w *testEngine, lost, healthy []pg.ID) {
	t.Helper()
	w = newTestEngine(t)
	w.partner.life = time.Hour
	for i := range 8 {
		if account := fmt.Sprint("account", i); i < 6 {
			lost = append(lost, w.connect(account, 12*time.Hour))
		} else {
			healthy = append(healthy, w.connect(account, 0))
		}
	}
	if _, err := w.engine.CheckRestore(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.exec(`CREATE TABLE dump AS SELECT * FROM grants`)
	for _, id := range lost {
		if _, err := w.engine.Fresh(t.Context(), id, 30*time.Minute, audit.System); err != nil {
			t.Fatal(err)
		}
	}
	w.exec(`DELETE FROM grants`)
	w.exec(`INSERT INTO grants SELECT * FROM dump`)
	if noticed {
		w.exec(`CREATE TABLE dump_settings AS SELECT * FROM settings`)
		w.exec(`DELETE FROM settings`)
		w.exec(`INSERT INTO settings SELECT * FROM dump_settings`)
	}
	w.clock.Advance(14 * time.Hour) // the lost ones are due
	return w, lost, healthy
}

func TestAfterARestoreRefusalsAreBelievedOneByOneAndBlameNoMerchant(t *testing.T) {
	w, lost, healthy := restored(t, true)
	for range 5 {
		w.sweep()
		w.clock.Advance(time.Minute)
	}
	for _, id := range lost {
		if r := w.grant(id); r.Problem != status.ProblemInterrupted {
			t.Errorf("a lost one: problem %q", r.Problem)
		}
		events, err := w.db.Audit.Timeline(t.Context(), id, "", 10)
		if err != nil || events.Rows[0].Kind != status.RefreshRejected || events.Rows[0].Note != status.NoteRestored {
			t.Errorf("its timeline: %+v, %v", events.Rows[0], err)
		}
	}
	for _, id := range healthy {
		if r, err := w.engine.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System); err != nil || !r.ExpiresAt.After(w.clock.Now()) {
			t.Errorf("a healthy one: %v", err)
		}
	}
	if open, err := w.engine.Incidents(t.Context()); err != nil || len(open) != 0 {
		t.Errorf("incidents: %+v, %v", open, err)
	}
	for account, n := range w.partner.calls {
		if n > 2 {
			t.Errorf("%s was tried %d times", account, n)
		}
	}
}

// What was refreshed since is as it ever was: a refusal is the merchant's, and of several the client is suspected.
func TestWhatWasRefreshedSinceARestoreIsRefusedAsEver(t *testing.T) {
	w, _, healthy := restored(t, true)
	w.sweep()
	w.clock.Advance(2 * time.Hour) // the sweep may have refreshed it a moment before another's rejection had the restore noticed
	if _, err := w.engine.Fresh(t.Context(), healthy[0], refresh.DefaultValidity, audit.System); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(25 * time.Hour)
	w.partner.set(func() { w.partner.live["account6"] = "gone" })
	w.sweep()
	if r := w.grant(healthy[0]); r.Problem != status.ProblemRejected {
		t.Errorf("problem %q", r.Problem)
	}
}

func TestAnIncidentThatARestoreOpenedEndsWhenItIsNoticed(t *testing.T) {
	w, lost, healthy := restored(t, false)
	w.sweep()
	if open, err := w.engine.Incidents(t.Context()); err != nil || len(open) != 1 || open[0].Reason != status.ReasonClientRejected {
		t.Fatalf("before it is noticed: %+v, %v", open, err)
	}
	w.exec(`UPDATE settings SET value = '1' || value WHERE name = 'database.identity'`)
	if last, err := w.engine.CheckRestore(t.Context()); err != nil || last.At.IsZero() {
		t.Fatalf("not noticed: %v", err)
	}
	for range 30 {
		w.clock.Advance(time.Minute)
		w.sweep()
	}
	for _, id := range lost {
		if r := w.grant(id); r.Problem != status.ProblemInterrupted {
			t.Errorf("a lost one: problem %q", r.Problem)
		}
	}
	for _, id := range healthy {
		if got := w.health(id); got != status.Fine {
			t.Errorf("a healthy one is %s", got)
		}
	}
}
