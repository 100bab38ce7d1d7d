package pg

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
)

// GenericPlans is for the beginning of a batch whose statements have one good plan whatever they are given: planning them each time
// would cost as much as doing them.
const GenericPlans = `SELECT set_config('plan_cache_mode', 'force_generic_plan', true)`

// Batcher makes one round trip and one commit of what many goroutines ask for at the same time: while batches run, the
// next collects. A lone caller does not wait.
type Batcher[In, Out any] struct {
	do            func(ctx context.Context, batch []In) ([]Out, error)
	maxBatch      int
	maxConcurrent int

	mu      sync.Mutex
	waiting []*request[In, Out]
	running int
}

// NewBatcher returns a Batcher that runs do with at most maxBatch inputs, at most maxConcurrent times at once; do returns one
// output for each input.
func NewBatcher[In, Out any](maxBatch, maxConcurrent int, do func(ctx context.Context, batch []In) ([]Out, error)) *Batcher[In, Out] {
	return &Batcher[In, Out]{do: do, maxBatch: maxBatch, maxConcurrent: maxConcurrent}
}

type request[In, Out any] struct {
	in   In
	out  Out
	err  error
	done chan struct{}
}

// Do runs one input in the next batch. A batch belongs to several callers, so no caller's context cancels it: Do returns when
// the batch has ended.
func (b *Batcher[In, Out]) Do(ctx context.Context, in In) (Out, error) {
	r := b.add(ctx, in)
	<-r.done
	return r.out, r.err
}

// Read is Do for what changes nothing: it returns ctx's error when ctx ends before the batch does.
func (b *Batcher[In, Out]) Read(ctx context.Context, in In) (Out, error) {
	r := b.add(ctx, in)
	select {
	case <-r.done:
		return r.out, r.err
	case <-ctx.Done():
		var none Out
		return none, ctx.Err()
	}
}

func (b *Batcher[In, Out]) add(ctx context.Context, in In) *request[In, Out] {
	r := &request[In, Out]{in: in, done: make(chan struct{})}
	b.mu.Lock()
	b.waiting = append(b.waiting, r)
	start := b.running < b.maxConcurrent
	if start {
		b.running++
	}
	b.mu.Unlock()
	if start {
		go b.run(context.WithoutCancel(ctx))
	}
	return r
}

func (b *Batcher[In, Out]) run(ctx context.Context) {
	for {
		runtime.Gosched() // who is about to ask is in this batch
		b.mu.Lock()
		n := min(len(b.waiting), b.maxBatch)
		if n == 0 {
			b.running--
			b.mu.Unlock()
			return
		}
		batch := slices.Clone(b.waiting[:n])
		b.waiting = slices.Delete(b.waiting, 0, n)
		b.mu.Unlock()

		in := make([]In, n)
		for i, r := range batch {
			in[i] = r.in
		}
		out, err := b.do(ctx, in)
		for i, r := range batch {
			switch {
			case err == nil:
				r.out = out[i]
			case n == 1, errors.Is(err, context.DeadlineExceeded): // Postgres does not answer: one by one would take many times as long
				r.err = err
			default: // one bad input must not fail the others
				var alone []Out
				if alone, r.err = b.do(ctx, in[i:i+1]); r.err == nil {
					r.out = alone[0]
				}
			}
			close(r.done)
		}
	}
}
