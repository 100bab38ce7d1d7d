package pg

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBatcherCollectsWhileOneIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		b := NewBatcher(8, 1, func(_ context.Context, in []int) ([]int, error) {
			sizes = append(sizes, len(in))
			time.Sleep(time.Millisecond)
			out := slices.Clone(in)
			for i := range out {
				out[i] *= 2
			}
			return out, nil
		})
		var all sync.WaitGroup
		for n := range 20 {
			all.Go(func() {
				if got, err := b.Do(t.Context(), n); err != nil || got != 2*n {
					t.Errorf("asked %d, got %d, %v", n, got, err)
				}
			})
		}
		all.Wait()
		total := 0
		for _, size := range sizes {
			total += size
		}
		if total != 20 || len(sizes) > 5 || slices.Max(sizes) > 8 {
			t.Errorf("batches of %v", sizes)
		}
	})
}

func TestOneBadRequestDoesNotSpoilTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("bad")
		b := NewBatcher(8, 1, func(_ context.Context, in []int) ([]int, error) {
			if slices.Contains(in, 3) {
				return nil, bad
			}
			return in, nil
		})
		var all sync.WaitGroup
		for n := range 6 {
			all.Go(func() {
				if got, err := b.Do(t.Context(), n); (n == 3) != errors.Is(err, bad) || n != 3 && got != n {
					t.Errorf("asked %d, got %d, %v", n, got, err)
				}
			})
		}
		all.Wait()
	})
}

func TestAReaderIsNotHeldByABatchThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		b := NewBatcher(8, 2, func(_ context.Context, in []string) ([]string, error) {
			if in[0] == "hangs" {
				<-stuck
			}
			return in, nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := b.Read(ctx, "hangs"); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the one that hangs: %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			if got, err := b.Read(t.Context(), "goes"); got != "goes" || err != nil {
				t.Errorf("beside it: %q, %v", got, err)
			}
		}
		all.Wait()
		close(stuck)
	})
}
