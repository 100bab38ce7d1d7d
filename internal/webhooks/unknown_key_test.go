package webhooks

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// TestDeliveriesWaitForAProcessThatHasTheKey has an endpoint that another process sealed with a newer key.
func TestDeliveriesWaitForAProcessThatHasTheKey(t *testing.T) {
	base := dbtest.Make(t)
	clock := dbtest.NewClock(time.Now())
	open := func(d dbtest.Database) *room {
		r := &room{t: t, clock: clock, Webhooks: New(Options{DB: d.Open(t, pg.Options{Clock: clock.Clock}), Private: true, Log: slog.New(slog.DiscardHandler)})}
		r.pollInterval = 5 * time.Millisecond
		return r
	}
	behind, ahead := open(base), open(base.Rotated(t))
	to, e, _ := ahead.receiver()
	known, ours, _ := behind.receiver()
	if _, _, err := ahead.SendTest(t.Context(), audit.System, e.ID); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Second)
	behind.run()
	if _, _, err := behind.SendTest(t.Context(), audit.System, ours.ID); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Second)
	dbtest.Eventually(t, "what this process can open is sent", func() bool { return len(known.got()) == 1 })
	dbtest.Eventually(t, "it has met the other", func() bool { return behind.DB.LacksKey() != 0 })
	if got := behind.endpoint(e.ID); got.State() != Unreadable || got.Waiting != 1 || got.Failed != 0 || !got.FailingSince.IsZero() || got.Shown != e.Shown {
		t.Errorf("where the key is missing: %+v", got)
	}
	if _, err := behind.Endpoint(t.Context(), e.ID); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("the endpoint alone: %v", err)
	}
	if _, _, err := behind.Rotate(t.Context(), audit.System, e.ID); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("its secret is rotated: %v", err)
	}
	if len(to.got()) != 0 {
		t.Error("something was sent without a secret")
	}
	ahead.run()
	ahead.waitFor(to, e, 1)
	if got := ahead.endpoint(e.ID); got.State() != On || got.Waiting != 0 || got.Failed != 0 {
		t.Errorf("where the key is known: %+v", got)
	}
}
