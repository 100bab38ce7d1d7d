package refresh

import (
	"context"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/restore"
	"patchbay/internal/status"
)

// CheckRestore looks whether the database was put back to an earlier state, and returns what is known of the last time. Who notices it
// ends the incidents in which our client is suspected: what the providers reject is explained one by one.
func (e *Engine) CheckRestore(ctx context.Context) (restore.State, error) {
	last, first, err := e.restores.Check(ctx)
	if err != nil {
		return last, err
	}
	before := e.restored.Swap(&last)
	if before == nil {
		before = &restore.State{}
	}
	lately := e.DB.Now().Add(-restoreLogged)
	if last.At.After(lately) && (!before.At.Equal(last.At) || before.Declared != last.Declared) {
		e.logRestore(last)
	}
	if last.Suspected() && last.PauseUntil.After(lately) && !before.PauseUntil.Equal(last.PauseUntil) {
		e.Log.Info("no process served for a while. If the database was put back to an earlier state meanwhile, run: patchbay restored", "from", last.PauseFrom, "until", last.PauseUntil)
	}
	if first {
		_, err = endSuspectedIncidents(ctx, e.DB)
	}
	return last, err
}

// restoreLogged is for how long a process that starts says that there was a restore.
const restoreLogged = 24 * time.Hour

// logRestore says what was found, at the start and when it changes.
func (e *Engine) logRestore(last restore.State) {
	switch {
	case last.Declared:
		e.Log.Info("the database was brought back: what a provider rejects that was refreshed before is interrupted by the restore", "at", last.At)
	case last.Lost():
		e.Log.Warn("the database is a copy of an earlier state: what a provider rejects that was refreshed before is taken for interrupted. If it was brought back from a backup, run: patchbay restored",
			"at", last.At, "knows_until", last.AsOf)
	default:
		e.Log.Warn("the database was restored, or another took over: what a provider rejects that was refreshed before is taken for interrupted", "at", last.At)
	}
}

// RestoreDeclaration is the result of DeclareRestored.
type RestoreDeclaration struct {
	restore.Declaration
	Ended int // incidents in which our client was suspected
}

// DeclareRestored marks the database as brought back, as restore.Watch.Declare does, and ends the incidents in which our client is suspected. The
// processes that serve follow.
func DeclareRestored(ctx context.Context, d *db.DB, at time.Time) (done RestoreDeclaration, err error) {
	if done.Declaration, err = restore.NewWatch(d.DB, d.Audit).Declare(ctx, at); err == nil && done.Changed {
		done.Ended, err = endSuspectedIncidents(ctx, d)
	}
	return done, err
}

func endSuspectedIncidents(ctx context.Context, d *db.DB) (ended int, err error) {
	open, err := incidents(ctx, d)
	for _, state := range open {
		if state.Reason != status.ReasonClientRejected || err != nil {
			continue
		}
		var one bool
		if one, err = endIncident(ctx, d, state.Name, state.Environment, audit.System); one {
			ended++
		}
	}
	return ended, err
}

// warnOfRestore logs that rejections may follow from a restore that nothing else shows.
func (e *Engine) warnOfRestore(ctx context.Context) {
	last, err := restore.Last(ctx, e.DB.Pool)
	if err != nil || !last.Suspected() {
		return
	}
	if n, err := restore.RejectedAfterPause(ctx, e.DB.Pool, last); err == nil && n > 0 {
		e.Log.Warn("what is rejected was refreshed before a pause in which no process served. If the database was put back to an earlier state then, run: patchbay restored",
			"connections", n, "from", last.PauseFrom, "until", last.PauseUntil)
	}
}
