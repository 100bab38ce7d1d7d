package refresh

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/restore"
)

// Options are what an Engine is made of. Zero times and numbers mean the defaults.
type Options struct {
	DB         *db.DB
	Connectors []connectors.Connector // those that are set up
	Log        *slog.Logger
	Slots      int           // calls to one provider at once, all processes together; 32
	Term       time.Duration // of a lease; 60 s. Nothing is sent with less than half of it left
	Deadline   time.Duration // for the whole of a connector's Refresh; 20 s
	Settle     time.Duration // how long a late answer is waited for after a lapsed lease; 2 min
	Tick       time.Duration // how often the sweep looks for what is due; 1 s
}

// Engine keeps access alive. Made by New; safe for any number of goroutines; Stop ends it.
type Engine struct {
	Options
	Metrics *Metrics
	queues  map[string]*providerQueue // by the provider's name
	order   []*providerQueue
	usage   usage
	counts  counters
	saves   saveCheck

	restores *restore.Watch
	restored atomic.Pointer[restore.State] // what was known of the last restore by the last look

	ctx    context.Context // what is under way lives this long: beyond requests, beyond Run
	cancel context.CancelFunc

	mu       sync.Mutex
	inflight map[pg.ID]*inflight
	stopping bool
	stopped  chan struct{} // closed when stopping begins
	underway sync.WaitGroup
	idle     chan func() // to a goroutine that has ended an attempt on demand, see begin
}

// New makes an engine. It does nothing by itself until Run.
func New(o Options) *Engine {
	o.Slots, o.Term, o.Deadline = cmp.Or(o.Slots, 32), cmp.Or(o.Term, time.Minute), cmp.Or(o.Deadline, 20*time.Second)
	o.Settle, o.Tick = cmp.Or(o.Settle, 2*time.Minute), cmp.Or(o.Tick, time.Second)
	e := &Engine{Options: o, queues: map[string]*providerQueue{}, inflight: map[pg.ID]*inflight{}, stopped: make(chan struct{}), idle: make(chan func()), restores: restore.NewWatch(o.DB.DB, o.DB.Audit)}
	e.Metrics = newMetrics(e)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	for _, c := range o.Connectors {
		q := newQueue(e.ctx, o, c)
		e.queues[q.info.Name] = q
		e.order = append(e.order, q)
	}
	return e
}

// queueOf is the queue of a connection's provider; nil when the provider is not set up or its present environment is another.
func (e *Engine) queueOf(provider, environment string) *providerQueue {
	q := e.queues[provider]
	if q == nil || q.info.Environment != environment {
		return nil
	}
	return q
}

// Run sweeps what is due, probes providers in trouble, rechecks accounts and writes down the figures, until ctx ends or Stop.
func (e *Engine) Run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-e.stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	var all sync.WaitGroup
	for _, q := range e.order {
		all.Go(func() { e.sweepQueue(ctx, q) })
	}
	all.Go(func() { e.every(ctx, 3*time.Second, e.Flush) })
	all.Go(func() { e.watchDatabase(ctx) })
	all.Wait()
}

func (e *Engine) every(ctx context.Context, pause time.Duration, do func(context.Context) error) {
	for sleep(ctx, pause) {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn("upkeep of refreshing", "err", err)
		}
	}
}

// sweepQueue claims what is due as fast as slots come free, and looks again every Tick when nothing is.
func (e *Engine) sweepQueue(ctx context.Context, q *providerQueue) {
	for e.addWork() {
		n, err := e.poll(ctx, q)
		e.underway.Done()
		if err == nil {
			q.polled.Store(e.DB.Now().Unix())
		}
		if err != nil && ctx.Err() == nil {
			e.Log.Warn("sweep", "provider", q.info.Name, "err", err)
		}
		if n == 0 || err != nil {
			if !sleep(ctx, e.Tick) {
				return
			}
			continue
		}
		select { // claim again as soon as a call has ended; one that hangs holds up no other
		case <-q.freed:
		case <-time.After(e.Tick):
		case <-ctx.Done():
			return
		}
	}
}

// addWork begins work that Stop waits for; it returns false when none may begin any more.
func (e *Engine) addWork() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return false
	}
	e.underway.Add(1)
	return true
}

// poll looks after one provider once: a probe during an incident, else accounts to recheck and what is due. It returns how many
// attempts were begun; they go on by themselves.
func (e *Engine) poll(ctx context.Context, q *providerQueue) (int, error) {
	if err := e.CheckSaves(ctx); err != nil {
		return 0, err
	}
	now := e.DB.Now()
	state, err := e.ProviderState(ctx, q.info.Name, q.info.Environment)
	q.troubled.Store(!state.IncidentSince.IsZero() || state.PausedUntil.After(now))
	switch {
	case err != nil:
		return 0, err
	case !state.IncidentSince.IsZero() || state.PausedUntil.After(now):
		return 0, e.probe(ctx, q, state, now)
	}
	rechecked, err := e.recheck(ctx, q)
	if err != nil {
		return rechecked, err
	}
	free := cap(q.slots) - len(q.slots)
	draining := now.Sub(state.DrainedAt) < recovery
	q.draining.Store(draining)
	if draining {
		free = min(free, max(1, cap(q.slots)/4)-len(q.slots))
	}
	if free <= 0 {
		return 1, nil // busy: the next call that ends wakes the sweep
	}
	leases, err := q.due(ctx, free, draining)
	for _, l := range leases {
		e.run(q, l, nil)
	}
	return rechecked + len(leases), err
}

// run carries out one attempt in a goroutine of its own. after is called with the outcome once it is written down; without it the
// attempt is the sweep's, which goes on with the grant that the save has claimed.
func (e *Engine) run(q *providerQueue, l *lease, after func(Result)) {
	q.slots <- struct{}{}
	e.underway.Go(func() {
		for l != nil {
			var out Result
			out, l = e.attempt(q, l, audit.System, after == nil && !q.draining.Load())
			if after != nil {
				after(out)
			}
		}
		<-q.slots
		q.wake()
	})
}

// isStopping says whether Stop was called: nothing new is claimed then.
func (e *Engine) isStopping() bool {
	select {
	case <-e.stopped:
		return true
	default:
		return false
	}
}

// Stop lets what is under way finish and be saved, at most until ctx ends, and writes down the figures.
func (e *Engine) Stop(ctx context.Context) error {
	e.mu.Lock()
	if !e.stopping {
		e.stopping = true
		close(e.stopped)
	}
	e.mu.Unlock()
	done := make(chan struct{})
	go func() {
		e.underway.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = errors.New("refreshes were still under way")
	}
	e.cancel()
	return errors.Join(err, e.Flush(context.WithoutCancel(ctx)))
}

// sleep waits and says whether ctx still lives.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
