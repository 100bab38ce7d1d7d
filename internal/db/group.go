package db

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// group makes one round trip and one commit of what many goroutines ask for at the same time: while one batch is under
// way the next collects. With a single caller nothing waits.
type group[In, Out any] struct {
	do   func(ctx context.Context, batch []In) ([]Out, error) // as many results as it was given
	most int                                                  // in one batch

	mu      sync.Mutex
	waiting []*grouped[In, Out]
	running bool
}

type grouped[In, Out any] struct {
	in   In
	out  Out
	err  error
	done chan struct{}
}

// Do runs one request in the next batch. The batch is not the caller's alone and is never cancelled by its context:
// callers must be able to wait for it.
func (g *group[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	one := &grouped[In, Out]{in: in, done: make(chan struct{})}
	g.mu.Lock()
	g.waiting = append(g.waiting, one)
	start := !g.running
	g.running = true
	g.mu.Unlock()
	if start {
		go g.run(context.WithoutCancel(ctx))
	}
	<-one.done
	return one.out, one.err
}

func (g *group[In, Out]) run(ctx context.Context) {
	for {
		g.mu.Lock()
		n := min(len(g.waiting), g.most)
		if n == 0 {
			g.running = false
			g.mu.Unlock()
			return
		}
		batch := slices.Clone(g.waiting[:n])
		g.waiting = slices.Delete(g.waiting, 0, n)
		g.mu.Unlock()

		in := make([]In, n)
		for i, one := range batch {
			in[i] = one.in
		}
		out, err := g.do(ctx, in)
		for i, one := range batch {
			switch {
			case err == nil:
				one.out = out[i]
			case n == 1, errors.Is(err, context.DeadlineExceeded): // Postgres does not answer: one by one would take many times as long
				one.err = err
			default: // one bad request must not spoil the others
				var alone []Out
				if alone, one.err = g.do(ctx, in[i:i+1]); one.err == nil {
					one.out = alone[0]
				}
			}
			close(one.done)
		}
	}
}
