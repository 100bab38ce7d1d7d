package refresh_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

func TestOnlySoManyCallersWaitForOneProvider(t *testing.T) {
	if refresh.MostCallers != 1000 {
		t.Errorf("%d may wait, 1,000 are wanted", refresh.MostCallers)
	}
	const most = 3
	w := newTestEngine(t)
	w.engine.LimitCallers("acme", most)
	ids := w.connectMany(most+2, time.Hour)
	good := w.connect("good", 0)
	release := make(chan struct{})
	end := sync.OnceFunc(func() { close(release) })
	t.Cleanup(end)
	w.partner.set(func() {
		w.partner.answer = func(string) error {
			<-release
			return nil
		}
	})
	var waiting sync.WaitGroup
	for i := range most { // readers and refreshes are bounded together
		waiting.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = w.engine.Fresh(t.Context(), ids[i], refresh.DefaultValidity, audit.System)
			} else {
				_, err = w.engine.RefreshNow(t.Context(), ids[i], audit.System)
			}
			if err != nil {
				t.Errorf("one of those that may wait: %v", err)
			}
		})
	}
	dbtest.Eventually(t, "as many as may wait", func() bool { return w.engine.Callers("acme") == most })

	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second) // whoever waits has not been refused
	defer cancel()
	for name, ask := range map[string]func() error{
		"a token": func() error {
			_, err := w.engine.Fresh(ctx, ids[most], refresh.DefaultValidity, audit.System)
			return err
		},
		"a refresh": func() error {
			_, err := w.engine.RefreshNow(ctx, ids[most+1], audit.System)
			return err
		},
		"what another waits for": func() error {
			_, err := w.engine.Fresh(ctx, ids[0], refresh.DefaultValidity, audit.System)
			return err
		},
	} {
		var trouble *refresh.ProviderUnavailableError
		if err := ask(); !errors.As(err, &trouble) || trouble.Outcome != status.Busy || trouble.RetryAfter < 10*time.Second {
			t.Errorf("one too many who asks for %s: %v", name, err)
		}
	}
	if _, err := w.engine.Fresh(t.Context(), good, refresh.DefaultValidity, audit.System); err != nil {
		t.Errorf("a good token, which nobody waits for: %v", err)
	}
	end()
	dbtest.Wait(t, &waiting, "those that wait")
	if n := w.engine.Callers("acme"); n != 0 {
		t.Errorf("%d wait when all have been answered", n)
	}
	if _, err := w.engine.Fresh(t.Context(), ids[most], refresh.DefaultValidity, audit.System); err != nil {
		t.Errorf("when there is room again: %v", err)
	}
}
