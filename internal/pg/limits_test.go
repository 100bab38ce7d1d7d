package pg_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

func TestWaitQueuesAndNeverRefusesForGood(t *testing.T) {
	clock := dbtest.NewClock(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))
	d := dbtest.New(t, pg.Options{Clock: clock.Clock})
	ctx := context.Background()
	limit := pg.Limit{Burst: 3, Every: 2 * time.Second}
	take := func(key string) (time.Duration, bool) {
		t.Helper()
		wait, ok, err := d.Wait(ctx, key, limit, 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		return wait, ok
	}
	for i, want := range []struct {
		wait time.Duration
		ok   bool
	}{
		{0, true},
		{0, true},
		{0, true},
		{2 * time.Second, true},
		{4 * time.Second, true},
		{time.Second, false},
		{time.Second, false}, // refusals take no turn: however many there are, the wait stays
	} {
		if wait, ok := take("a"); wait != want.wait || ok != want.ok {
			t.Errorf("try %d: wait %v, ok %v; want %v, %v", i+1, wait, ok, want.wait, want.ok)
		}
	}
	if wait, ok := take("b"); wait != 0 || !ok {
		t.Errorf("another key waits %v, ok %v", wait, ok)
	}
	clock.Advance(time.Second)
	if wait, ok := take("a"); wait != 5*time.Second || !ok {
		t.Errorf("after the wait: wait %v, ok %v; want 5s, true", wait, ok)
	}
	clock.Advance(time.Minute)
	if wait, ok := take("a"); wait != 0 || !ok {
		t.Errorf("after a minute's rest: wait %v, ok %v", wait, ok)
	}
}

func TestWaitGivesEachTurnOnce(t *testing.T) {
	clock := dbtest.NewClock(time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC))
	d := dbtest.New(t, pg.Options{Clock: clock.Clock})
	var wg sync.WaitGroup
	var mu sync.Mutex
	turns := map[time.Duration]int{}
	for range 20 {
		wg.Go(func() {
			wait, ok, err := d.Wait(context.Background(), "crowd", pg.Limit{Burst: 1, Every: time.Second}, 9*time.Second)
			if err != nil {
				t.Error(err)
			}
			if ok {
				mu.Lock()
				turns[wait]++
				mu.Unlock()
			}
		})
	}
	dbtest.Wait(t, &wg, "the callers")
	for i := range 10 {
		if n := turns[time.Duration(i)*time.Second]; n != 1 {
			t.Errorf("the turn after %d s was given %d times: %v", i, n, turns)
		}
	}
}

// TestResetMeanwhile asks for turns while the limit is reset again and again: that is no error.
func TestResetMeanwhile(t *testing.T) {
	d := dbtest.New(t)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Second)
	defer stop()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 150 {
				if _, err := d.Allow(ctx, "crowd", pg.Limit{Burst: 1, Every: time.Hour}); err != nil && ctx.Err() == nil {
					t.Error(err)
					return
				}
				if err := d.ResetLimit(ctx, "crowd"); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
		})
	}
	dbtest.Wait(t, &all, "the callers")
}
