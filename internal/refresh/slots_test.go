package refresh_test

import (
	"fmt"
	"testing"
	"time"

	"patchbay/internal/audit"
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
	few := func(o *refresh.Options) { o.Slots, o.Tick = 4, 20*time.Millisecond }
	for range 3 {
		run(t, w.newEngine(base.Open(t, pg.Options{MaxConns: 8}), few))
	}
	readers := w.newEngine(w.db, few) // programs want theirs meanwhile
	for n := range 10 {
		id := w.connect(fmt.Sprint("wanted", n), 48*time.Hour)
		if _, err := readers.Fresh(t.Context(), id, refresh.DefaultValidity, audit.System); err != nil {
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
