package refresh

import (
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
	"patchbay/internal/status"
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
	Figures *Figures // for /metrics
	leases  *db.Leases
	lanes   map[string]*lane
	order   []*lane
	usage   usage
	tallies tallies

	life context.Context // what is under way lives this long: beyond requests, beyond Run
	end  context.CancelFunc

	mu       sync.Mutex
	flights  map[pg.ID]*flight
	stopping bool
	stopped  chan struct{} // closed when stopping begins
	underway sync.WaitGroup
}

// lane is the way to one provider, as this process uses it.
type lane struct {
	*db.Lane
	connector connectors.Connector
	info      connectors.Info
	slots     chan struct{} // one for each call this process may make at once
	freed     chan struct{} // told when one ends
	judging   sync.Mutex
	unjudged  atomic.Bool // something failed since the last judgement began
	troubled  atomic.Bool // an incident was open when it was last looked at
	draining  atomic.Bool // an incident has just ended: in order of expiry and at a bounded pace
}

// New makes an engine. It does nothing by itself until Run.
func New(o Options) *Engine {
	o.Slots, o.Term, o.Deadline = orElse(o.Slots, 32), orElse(o.Term, time.Minute), orElse(o.Deadline, 20*time.Second)
	o.Settle, o.Tick = orElse(o.Settle, 2*time.Minute), orElse(o.Tick, time.Second)
	e := &Engine{Options: o, lanes: map[string]*lane{}, flights: map[pg.ID]*flight{}, stopped: make(chan struct{})}
	e.Figures = newFigures(e)
	e.life, e.end = context.WithCancel(context.Background())
	e.leases = o.DB.NewLeases(db.LeaseOptions{Term: o.Term, Settle: o.Settle})
	for _, c := range o.Connectors {
		info := c.Info()
		l := &lane{
			Lane:      e.leases.Lane(info.Name, info.Environment, o.Slots, info.ReplaySafe),
			connector: c, info: info,
			slots: make(chan struct{}, o.Slots), freed: make(chan struct{}, 1),
		}
		e.lanes[info.Name] = l
		e.order = append(e.order, l)
	}
	return e
}

func orElse[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// laneOf is the way to a connection's provider; nil when it is not set up or works in another environment now.
func (e *Engine) laneOf(provider, environment string) *lane {
	l := e.lanes[provider]
	if l == nil || l.Environment != environment {
		return nil
	}
	return l
}

// Run sweeps what is due, probes providers in trouble, verifies hints and keeps the figures, until ctx ends or Stop.
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
	if err := e.DB.Audit.MakeMonths(ctx); err != nil && ctx.Err() == nil {
		e.Log.Warn("upkeep of refreshing", "err", err)
	}
	var all sync.WaitGroup
	for _, l := range e.order {
		all.Go(func() { e.sweepLane(ctx, l) })
	}
	all.Go(func() { e.every(ctx, 3*time.Second, e.Flush) })
	all.Go(func() { e.every(ctx, time.Minute, e.DB.MeasureClock) })
	all.Go(func() { e.every(ctx, time.Minute, e.DB.FoldCounts) })
	all.Go(func() { e.every(ctx, time.Hour, e.DB.Audit.MakeMonths) })
	all.Go(func() { e.every(ctx, time.Hour, e.DB.DropOldFigures) })
	all.Wait()
}

func (e *Engine) every(ctx context.Context, pause time.Duration, do func(context.Context) error) {
	for sleep(ctx, pause) {
		if err := do(ctx); err != nil && ctx.Err() == nil {
			e.Log.Warn("upkeep of refreshing", "err", err)
		}
	}
}

// sweepLane claims what is due as fast as slots come free, and looks again every Tick when nothing is.
func (e *Engine) sweepLane(ctx context.Context, l *lane) {
	for e.enter() {
		n, err := e.tend(ctx, l)
		e.underway.Done()
		if err != nil && ctx.Err() == nil {
			e.Log.Warn("sweep", "provider", l.info.Name, "err", err)
		}
		if n == 0 || err != nil {
			if !sleep(ctx, e.Tick) {
				return
			}
			continue
		}
		select { // claim again as soon as something has come back; what hangs holds up nothing else
		case <-l.freed:
		case <-time.After(e.Tick):
		case <-ctx.Done():
			return
		}
	}
}

// enter begins something that Stop waits for; false when nothing may begin any more.
func (e *Engine) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.stopping {
		return false
	}
	e.underway.Add(1)
	return true
}

// Sweep does by hand, once and to its end, what Run does all the time: it returns when nothing that is due can be claimed any
// more and all that was begun has ended. For tests with a clock of their own.
func (e *Engine) Sweep(ctx context.Context) (attempts int, err error) {
	for _, l := range e.order {
		for {
			n, err := e.tend(ctx, l)
			if err != nil {
				return attempts, err
			}
			e.underway.Wait()
			if attempts += n; n == 0 {
				break
			}
		}
	}
	return attempts, nil
}

// A provider that has just recovered is not run over: for this long only a quarter of the slots is used.
const recovery = 10 * time.Minute

// tend looks after one provider once: a probe during an incident, else hints to verify and what is due. It returns how many
// attempts were begun; they go on by themselves.
func (e *Engine) tend(ctx context.Context, l *lane) (int, error) {
	now := e.DB.Now()
	state, err := e.DB.ProviderState(ctx, l.info.Name, l.info.Environment)
	l.troubled.Store(!state.IncidentSince.IsZero())
	switch {
	case err != nil:
		return 0, err
	case !state.IncidentSince.IsZero():
		return e.probe(ctx, l, state, now)
	case state.PausedUntil.After(now):
		return 0, nil
	}
	verified, err := e.verify(ctx, l)
	if err != nil {
		return verified, err
	}
	free := cap(l.slots) - len(l.slots)
	draining := now.Sub(state.DrainedAt) < recovery
	l.draining.Store(draining)
	if draining {
		free = min(free, max(1, cap(l.slots)/4)-len(l.slots))
	}
	if free <= 0 {
		return 1, nil // busy: what comes back will wake us
	}
	leases, err := l.Due(ctx, free, draining)
	for _, lease := range leases {
		e.begin(l, lease, nil)
	}
	return verified + len(leases), err
}

// probe tries a provider in trouble with one grant, by one process, every half minute and later every minute.
func (e *Engine) probe(ctx context.Context, l *lane, state db.ProviderState, now time.Time) (int, error) {
	pause := 30 * time.Second
	if now.Sub(state.IncidentSince) > 10*time.Minute {
		pause = time.Minute
	}
	mine, err := e.DB.TakeProbe(ctx, l.info.Name, l.info.Environment, now.Add(pause))
	if err != nil || !mine {
		return 0, err
	}
	lease, err := l.Probe(ctx)
	if err != nil || lease == nil {
		return 0, err
	}
	e.begin(l, lease, func(out Outcome) {
		if out.Class == status.OK {
			e.recovered(l)
		}
	})
	return 0, nil
}

// recovered ends an incident that nobody declared: the provider has said yes.
func (e *Engine) recovered(l *lane) {
	state, err := e.DB.ProviderState(e.life, l.info.Name, l.info.Environment)
	if err != nil || state.IncidentSince.IsZero() || state.Reason == status.ReasonDeclared {
		return
	}
	if err := e.End(e.life, l.info.Name, audit.System); err != nil {
		e.Log.Warn("incident not ended", "provider", l.info.Name, "err", err)
	}
}

// begin carries out one attempt on its own, detached from whoever asked. after is told the outcome once it is written down; without
// it the attempt is the sweep's, and whoever has saved one grant goes on with the next.
func (e *Engine) begin(l *lane, lease *db.Lease, after func(Outcome)) {
	l.slots <- struct{}{}
	e.underway.Go(func() {
		for lease != nil {
			var out Outcome
			out, lease = e.attempt(l, lease, audit.System, after == nil && !l.draining.Load())
			if after != nil {
				after(out)
			}
		}
		<-l.slots
		l.tell()
	})
}

// ending says whether Stop has been called: nothing new is claimed.
func (e *Engine) ending() bool {
	select {
	case <-e.stopped:
		return true
	default:
		return false
	}
}

func (l *lane) tell() {
	select {
	case l.freed <- struct{}{}:
	default:
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
	e.end()
	return errors.Join(err, e.Flush(context.WithoutCancel(ctx)))
}

// Declare opens an incident by an admin's word: nothing is sent to the provider by itself until End.
func (e *Engine) Declare(ctx context.Context, provider string, by audit.Actor) error {
	l := e.lanes[provider]
	if l == nil {
		return pg.ErrNotFound
	}
	_, err := e.DB.OpenIncident(ctx, l.info.Name, l.info.Environment, status.ReasonDeclared, by, time.Time{})
	return err
}

// End ends a provider's incident; what failed meanwhile is drained in order of expiry.
func (e *Engine) End(ctx context.Context, provider string, by audit.Actor) error {
	l := e.lanes[provider]
	if l == nil {
		return pg.ErrNotFound
	}
	ended, err := e.DB.EndIncident(ctx, l.info.Name, l.info.Environment, by)
	if ended {
		e.Log.Info("incident ended", "provider", l.info.Name)
		l.tell()
	}
	return err
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
