package db

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

func TestAGroupThatFailed(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault error
		calls int32 // the first, for one alone, holds up the other twenty until they are all there
	}{
		{"one bad request spoils no other", errors.New("a value that is none"), 1 + 1 + 20},
		{"nothing is asked twenty times of a database that does not answer", context.DeadlineExceeded, 1 + 1},
	} {
		var calls atomic.Int32
		begun, release := make(chan struct{}), make(chan struct{})
		g := group[int, int]{most: 64, do: func(_ context.Context, batch []int) ([]int, error) {
			if calls.Add(1) == 1 {
				close(begun)
				<-release
				return batch, nil
			}
			if len(batch) > 1 {
				return nil, c.fault
			}
			return batch, nil
		}}
		var all sync.WaitGroup
		all.Go(func() { g.Do(t.Context(), 0) })
		<-begun
		for i := range 20 {
			all.Go(func() { g.Do(t.Context(), i) })
		}
		for waiting := 0; waiting < 20; {
			g.mu.Lock()
			waiting = len(g.waiting)
			g.mu.Unlock()
		}
		close(release)
		all.Wait()
		if n := calls.Load(); n != c.calls {
			t.Errorf("%s: %d calls, want %d", c.name, n, c.calls)
		}
	}
}
