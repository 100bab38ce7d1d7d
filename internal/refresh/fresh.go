package refresh

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cenkalti/backoff/v5"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/schedule"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// ActionNeededError says that there is no token until the merchant acts.
type ActionNeededError struct{ Problem status.Problem }

func (a *ActionNeededError) Error() string { return "the merchant must act: " + string(a.Problem) }

// ProviderTroubleError says that the provider gives no token just now. It is tried again by itself.
type ProviderTroubleError struct {
	RetryAfter time.Duration
	Incident   bool           // the provider fails for several merchants
	Outcome    status.Outcome // of the last attempt: Temporary, RateLimited, Lost or Busy
}

func (t *ProviderTroubleError) Error() string {
	return "the provider is in trouble: " + string(t.Outcome)
}

// PlatformActionError says that there is no token until the platform acts.
type PlatformActionError struct{ Problem status.Problem }

func (p *PlatformActionError) Error() string { return "the platform must act: " + string(p.Problem) }

// MinValidTooLongError says that no token of this provider is good for that long. Most is what may be asked for.
type MinValidTooLongError struct{ Most time.Duration }

func (t *MinValidTooLongError) Error() string {
	return fmt.Sprintf("no token lasts that long, at most %s", t.Most)
}

// Default asks Fresh for the usual: the smaller of a minute and a fifth of the lifetime.
const Default time.Duration = -1

// readWithin is how long a database that hangs is waited for.
const readWithin = 5 * time.Second

// Fresh returns a reading whose token is good for at least minValid, refreshing first where need be, or joining an attempt under
// way in this process or another. Else the error says why not and who must act: it returns *ActionNeededError,
// *ProviderTroubleError, *PlatformActionError, *MinValidTooLongError, pg.ErrNotFound, or seal.ErrUnknownKey where another process may know.
func (e *Engine) Fresh(ctx context.Context, id pg.ID, minValid time.Duration, by audit.Actor) (db.Reading, error) {
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	r, err := e.DB.ReadGrant(reading, id)
	if err != nil {
		return r, err
	}
	return e.freshen(ctx, r, minValid, by)
}

// Good says whether a token that was just handed out will do as it is; when not, Fresh knows what to do about it.
func (e *Engine) Good(h db.Handout, minValid time.Duration) bool {
	now := e.DB.Now()
	return e.queueOf(h.Provider, h.Environment) != nil && (h.Lifetime == 0 || minValid <= mostOf(h.Lifetime)) &&
		schedule.Possible(h.ExpiresAt, h.Lifetime, now) && (h.ExpiresAt.IsZero() || h.ExpiresAt.Sub(now) >= need(h.Lifetime, minValid))
}

// mostOf is the longest that a token of this lifetime may be asked to be good for.
func mostOf(lifetime time.Duration) time.Duration { return lifetime * 8 / 10 }

func (e *Engine) freshen(ctx context.Context, r db.Reading, minValid time.Duration, by audit.Actor) (db.Reading, error) {
	q := e.queueOf(r.Provider, r.Environment)
	good, err := e.verdict(r, minValid)
	if good || err != nil {
		return r, e.orBlocked(ctx, q, err)
	}
	if err := q.enter(); err != nil {
		return r, err
	}
	defer q.leaveQueue()
	ctx, cancel := context.WithTimeout(ctx, e.patience())
	defer cancel()
	for ; ; good, err = e.verdict(r, minValid) {
		if good || err != nil {
			return r, e.orBlocked(ctx, q, err)
		}
		if r.LeasedUntil.After(e.DB.Now()) && !e.isInflight(r.Connection) {
			if r, err = e.wait(ctx, r); err != nil {
				return r, err
			}
			continue
		}
		f, err := e.join(ctx, q, claimRequest{Connection: r.Connection, Attempt: r.Attempt}, by)
		if err != nil {
			return r, err
		}
		if f.leased && f.out.Outcome == status.OK && !f.out.Dropped && f.attempt >= r.Attempt {
			return withOutcome(e.DB.Now(), r, f.out, minValid)
		}
		if !f.leased {
			if err := e.blockedBy(ctx, q); err != nil {
				return r, err
			}
		}
		if r, err = e.reread(ctx, r); err != nil {
			return r, err
		}
	}
}

// verdict says whether a reading will do, or why no refresh can help now. Neither: it must be refreshed.
func (e *Engine) verdict(r db.Reading, minValid time.Duration) (good bool, err error) {
	now := e.DB.Now()
	s := e.statusOf(r)
	switch {
	case s.Health == status.Disconnected:
		return false, &ActionNeededError{Problem: status.ProblemDisconnected}
	case e.queueOf(r.Provider, r.Environment) == nil:
		return false, &PlatformActionError{Problem: s.Problem}
	case r.Lifetime > 0 && minValid > mostOf(r.Lifetime):
		return false, &MinValidTooLongError{Most: mostOf(r.Lifetime)}
	case s.Party == status.PartyMerchant && s.Problem != status.ProblemLapsed:
		return false, &ActionNeededError{Problem: s.Problem}
	case r.Token.Access != "" && schedule.Possible(r.ExpiresAt, r.Lifetime, now) && (r.ExpiresAt.IsZero() || r.ExpiresAt.Sub(now) >= needOf(r, minValid)):
		return true, nil
	case s.Party == status.PartyMerchant:
		return false, &ActionNeededError{Problem: s.Problem}
	case r.Sealed:
		return false, &PlatformActionError{Problem: status.ProblemSealed}
	case r.Unrenewable && r.ExpiresAt.After(now): // what is left of it is less than was asked for: only the merchant can give more
		return false, &ActionNeededError{Problem: status.ProblemLapsed}
	case r.LeasedUntil.After(now):
		return false, nil
	case e.unsettled(r, now) > 0:
		return false, &ProviderTroubleError{Outcome: status.Lost, RetryAfter: e.unsettled(r, now)}
	case s.Problem != "":
		return false, &PlatformActionError{Problem: s.Problem}
	case r.LastOutcome != status.OK && r.LastOutcome != status.Lost && r.RefreshAt.After(now):
		return false, &ProviderTroubleError{Outcome: r.LastOutcome, RetryAfter: r.RefreshAt.Sub(now)}
	}
	return false, nil
}

// statusOf says how the connection of a reading is, without regard to incidents: an attempt finds those out.
func (e *Engine) statusOf(r db.Reading) status.Status {
	var p status.Provider
	if q := e.queues[r.Provider]; q != nil {
		p = status.Provider{SetUp: true, Environment: q.info.Environment}
	}
	row := status.Row{Environment: r.Environment, Problem: r.Problem}
	if r.Disconnected {
		row.DisconnectedAt = e.DB.Now()
	}
	return status.Of(row, p)
}

// unsettled is how long the answer of a lapsed lease may still come; 0 when there is none or it can be asked for again.
func (e *Engine) unsettled(r db.Reading, now time.Time) time.Duration {
	q := e.queueOf(r.Provider, r.Environment)
	if q == nil || q.info.ReplaySafe || r.LeasedUntil.IsZero() || r.LeasedUntil.After(now) {
		return 0
	}
	return max(0, r.LeasedUntil.Add(e.Settle).Sub(now))
}

// need is how long a token must still be good.
func need(lifetime, minValid time.Duration) time.Duration {
	if minValid >= 0 {
		return minValid
	}
	return schedule.Reserve(lifetime)
}

// needOf is need for a reading. Of a token that nothing renews the usual is what is left, since there is no better one.
func needOf(r db.Reading, minValid time.Duration) time.Duration {
	if r.Unrenewable && minValid < 0 {
		return time.Second
	}
	return need(r.Lifetime, minValid)
}

// withOutcome is a reading after an attempt that has just succeeded.
func withOutcome(now time.Time, r db.Reading, out Result, minValid time.Duration) (db.Reading, error) {
	scope := r.Token.Scope
	r.Token, r.Lifetime, r.ExpiresAt, r.Problem, r.LastOutcome = out.Token, out.Token.Lifetime, out.ExpiresAt, "", status.OK
	r.Token.Refresh = ""
	if len(r.Token.Scope) == 0 {
		r.Token.Scope = scope
	}
	if !r.ExpiresAt.IsZero() && r.ExpiresAt.Sub(now) < need(r.Lifetime, minValid) {
		return r, &MinValidTooLongError{Most: mostOf(r.Lifetime)}
	}
	return r, nil
}

// wait waits until the lease that another process holds has ended, and returns the reading then.
func (e *Engine) wait(ctx context.Context, r db.Reading) (db.Reading, error) {
	pauses := backoff.ExponentialBackOff{InitialInterval: 15 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: 250 * time.Millisecond}
	pauses.Reset()
	for {
		if !sleep(ctx, pauses.NextBackOff()) {
			return r, errBusy
		}
		now, err := e.DB.ReadGrant(ctx, r.Connection)
		if err != nil || now.Attempt != r.Attempt || !now.LeasedUntil.After(e.DB.Now()) {
			return now, err
		}
	}
}

// blockedBy says why a lease could not be had, when that is the provider's state; nil when asking again is worth it.
func (e *Engine) blockedBy(ctx context.Context, q *providerQueue) error {
	state, err := e.ProviderState(ctx, q.info.Name, q.info.Environment)
	now := e.DB.Now()
	switch {
	case err != nil:
		return err
	case !state.IncidentSince.IsZero() && state.Reason == status.ReasonClientRejected:
		return &PlatformActionError{Problem: status.ProblemClientRejected}
	case !state.IncidentSince.IsZero():
		return &ProviderTroubleError{Outcome: status.Temporary, Incident: true, RetryAfter: max(10*time.Second, state.NextProbe.Sub(now))}
	case state.PausedUntil.After(now):
		return &ProviderTroubleError{Outcome: status.RateLimited, RetryAfter: state.PausedUntil.Sub(now)}
	}
	return nil
}

// orBlocked returns err or, where it is that the provider fails, what an incident or a pause of the provider makes of it.
func (e *Engine) orBlocked(ctx context.Context, q *providerQueue, err error) error {
	var trouble *ProviderTroubleError
	if !errors.As(err, &trouble) || trouble.Outcome == status.Lost {
		return err
	}
	return cmp.Or(e.blockedBy(ctx, q), err)
}

// reread reads a grant again after an attempt, and first waits a little where it is as it was.
func (e *Engine) reread(ctx context.Context, r db.Reading) (db.Reading, error) {
	now, err := e.DB.ReadGrant(ctx, r.Connection)
	if err == nil && now.Token.Access == "" && !now.Sealed && !now.Disconnected {
		return now, &PlatformActionError{Problem: status.ProblemSealed} // there is no grant, which only a faulty restore leaves behind
	}
	if err == nil && now.Attempt == r.Attempt && !now.LeasedUntil.After(e.DB.Now()) {
		// No slot was free, or another statement held the row: neither is a failed token.
		if !sleep(ctx, jitter(40*time.Millisecond)) {
			return now, errBusy
		}
	}
	return now, err
}

// errBusy: no lease could be had in time. errCrowded: too many others wait, or no call to the provider has ended for long.
var (
	errBusy    = &ProviderTroubleError{Outcome: status.Busy, RetryAfter: time.Second}
	errCrowded = &ProviderTroubleError{Outcome: status.Busy, RetryAfter: 10 * time.Second}
)

// patience is how long a caller waits for a refresh at most: for a slot, for the provider, and for the save.
func (e *Engine) patience() time.Duration { return e.Term * 2 / 3 }

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// RefreshNow refreshes a connection whatever its schedule says and returns the outcome; it joins an attempt under way. It returns
// *ActionNeededError if the connection is disconnected, *PlatformActionError if the provider is not set up for it, pg.ErrNotFound
// if it does not exist, and seal.ErrUnknownKey where another process may refresh it.
func (e *Engine) RefreshNow(ctx context.Context, id pg.ID, by audit.Actor) (Result, error) {
	reading, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	r, err := e.DB.ReadGrant(reading, id)
	if err != nil {
		return Result{}, err
	}
	return e.RefreshReading(ctx, r, by)
}

// RefreshReading is RefreshNow for a reading that was just made. Where there is no lease, Connection, Provider, Environment and
// Disconnected are enough of it.
func (e *Engine) RefreshReading(ctx context.Context, r db.Reading, by audit.Actor) (Result, error) {
	q := e.queueOf(r.Provider, r.Environment)
	if q != nil {
		if err := q.enter(); err != nil {
			return Result{}, err
		}
		defer q.leaveQueue()
	}
	ctx, cancel := context.WithTimeout(ctx, e.patience())
	defer cancel()
	for {
		now := e.DB.Now()
		switch {
		case r.Disconnected:
			return Result{}, &ActionNeededError{Problem: status.ProblemDisconnected}
		case q == nil:
			return Result{}, &PlatformActionError{Problem: e.statusOf(r).Problem}
		case r.LeasedUntil.After(now) && !e.isInflight(r.Connection):
			then, err := e.wait(ctx, r)
			if err != nil {
				return Result{}, err
			}
			if then.Attempt != r.Attempt {
				return outcomeOf(e.DB.Now(), then), nil
			}
			r = then
			continue
		case e.unsettled(r, now) > 0:
			return Result{Outcome: status.Lost, RetryAfter: e.unsettled(r, now)}, nil
		}
		f, err := e.join(ctx, q, claimRequest{Connection: r.Connection, Attempt: -1, Force: true}, by)
		if err != nil {
			return Result{}, err
		}
		if f.leased && f.out.Outcome != status.Busy && !f.out.Dropped {
			if f.out.Outcome == status.OK && q.troubled.Load() {
				e.recovered(q)
			}
			return f.out, nil
		}
		if r, err = e.reread(ctx, r); err != nil {
			return Result{}, err
		}
	}
}

// outcomeOf is the outcome of an attempt that another process made.
func outcomeOf(now time.Time, r db.Reading) Result {
	out := Result{Outcome: r.LastOutcome, Problem: r.Problem, Token: r.Token, ExpiresAt: r.ExpiresAt, RefreshedAt: r.RefreshedAt, RefreshAt: r.RefreshAt}
	out.Call.Code = r.LastCode
	if r.LastOutcome != status.OK && r.RefreshAt.After(now) {
		out.RetryAfter = r.RefreshAt.Sub(now)
	}
	return out
}

// inflight is an attempt on demand that this process makes; all who ask meanwhile join it.
type inflight struct {
	done    chan struct{}
	leased  bool // the lease was had; else out means nothing
	attempt int64
	out     Result
	err     error
}

// isInflight says whether this process is making an attempt on demand.
func (e *Engine) isInflight(id pg.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inflight[id] != nil
}

// join makes an attempt, or joins the one that this process is making. The attempt goes on when ctx ends, which is why this is
// not x/sync/singleflight: Stop waits for it, and wait must know of it.
func (e *Engine) join(ctx context.Context, q *providerQueue, want claimRequest, by audit.Actor) (*inflight, error) {
	e.mu.Lock()
	f := e.inflight[want.Connection]
	if f == nil {
		if e.stopping {
			e.mu.Unlock()
			return nil, errBusy
		}
		f = &inflight{done: make(chan struct{})}
		e.inflight[want.Connection] = f
		e.begin(func() {
			e.runInflight(q, want, by, f)
			e.mu.Lock()
			delete(e.inflight, want.Connection)
			e.mu.Unlock()
			close(f.done)
		})
	}
	e.mu.Unlock()
	select {
	case <-f.done:
		return f, f.err
	case <-ctx.Done():
		return nil, errBusy
	}
}

// begin runs an attempt on demand, in a goroutine that has ended another within a second where there is one: its stack has grown to what an
// attempt needs.
func (e *Engine) begin(attempt func()) {
	select {
	case e.idle <- attempt:
	default:
		e.underway.Go(func() {
			for {
				attempt()
				select {
				case attempt = <-e.idle:
				case <-time.After(time.Second):
					return
				case <-e.stopped:
					return
				}
			}
		})
	}
}

func (e *Engine) runInflight(q *providerQueue, want claimRequest, by audit.Actor, f *inflight) {
	if f.err = e.Works(e.life); f.err != nil {
		return
	}
	select {
	case q.slots <- struct{}{}:
	case <-time.After(e.Deadline / 2):
		f.err = errCrowded
		return
	}
	defer func() {
		<-q.slots
		q.wake()
	}()
	l, err := q.claim(e.life, want)
	if f.err = err; err != nil || l == nil {
		return
	}
	f.leased, f.attempt = true, l.Attempt
	if f.out, _ = e.attempt(q, l, by, false); errors.Is(l.Unsealed, seal.ErrUnknownKey) {
		f.err = l.Unsealed
	}
}
