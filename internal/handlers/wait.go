package handlers

import (
	"context"
	"time"
)

// pause waits. It returns the context's error if that ends first.
func pause(ctx context.Context, wait time.Duration) error {
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// retry calls do as long as it asks for another call, with pauses in between that double from first to longest. It returns
// the last call's error; when the context ends before do is content without one, the context's.
func retry(ctx context.Context, first, longest time.Duration, do func() (again bool, err error)) error {
	for wait := first; ; wait = min(2*wait, longest) {
		again, err := do()
		if !again {
			return err
		}
		if ended := pause(ctx, wait); ended != nil {
			if err == nil {
				err = ended
			}
			return err
		}
	}
}
