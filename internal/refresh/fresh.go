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

// ProviderUnavailableError says that the provider gives no token at present. The refresh is retried automatically.
type ProviderUnavailableError struct {
	RetryAfter time.Duration
	Incident   bool           // the provider fails for several merchants
	Outcome    status.Outcome // of the last attempt: Temporary, RateLimited, Lost or Busy
}

func (t *ProviderUnavailableError) Error() string {
	return "the provider is unavailable: " + string(t.Outcome)
}

// PlatformActionError says that there is no token until the platform acts.
type PlatformActionError struct{ Problem status.Problem }

func (p *PlatformActionError) Error() string { return "the platform must act: " + string(p.Problem) }

// MinValidTooLongError says that no token of this provider is good for that long. Most is what may be asked for.
type MinValidTooLongError struct{ Most time.Duration }

func (t *MinValidTooLongError) Error() string {
	return fmt.Sprintf("no token lasts that long, at most %s", t.Most)
}

// DefaultValidity asks Fresh for a token that is good for a minute, or a fifth of its lifetime if that is less.
const DefaultValidity time.Duration = -1

// readTimeout is how long Postgres may take to read a grant.
const readTimeout = 5 * time.Second

// Fresh returns a grant whose token is good for at least minValid, refreshing first where need be, or joining an attempt under
// way in this process or another. Else the error says why not and who must act: it returns *ActionNeededError,
// *ProviderUnavailableError, *PlatformActionError, *MinValidTooLongError, pg.ErrNotFound, or seal.ErrUnknownKey where another process may know.
func (e *Engine) Fresh(ctx context.Context, id pg.ID, minValid time.Duration, by audit.Actor) (db.GrantState, error) {
	readCtx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	g, err := e.DB.ReadGrant(readCtx, id)
	if err != nil {
		return g, err
	}
	return e.freshen(ctx, g, minValid, by)
}

// Good says whether a token that was just handed out will do as it is; when not, Fresh knows what to do about it.
func (e *Engine) Good(h db.TokenRead, minValid time.Duration) bool {
	now := e.DB.Now()
	return e.queueOf(h.Provider, h.Environment) != nil && (h.Lifetime == 0 || minValid <= maxValidity(h.Lifetime)) &&
		schedule.Possible(h.ExpiresAt, h.Lifetime, now) && (h.ExpiresAt.IsZero() || h.ExpiresAt.Sub(now) >= requiredValidity(h.Lifetime, minValid))
}

// maxValidity is the longest validity that may be asked of a token with this lifetime.
func maxValidity(lifetime time.Duration) time.Duration { return lifetime * 8 / 10 }

func (e *Engine) freshen(ctx context.Context, g db.GrantState, minValid time.Duration, by audit.Actor) (db.GrantState, error) {
	q := e.queueOf(g.Provider, g.Environment)
	good, err := e.verdict(g, minValid)
	if good || err != nil {
		return g, e.orProviderState(ctx, q, err)
	}
	if err := q.admit(); err != nil {
		return g, err
	}
	defer q.done()
	ctx, cancel := context.WithTimeout(ctx, e.waitLimit())
	defer cancel()
	for ; ; good, err = e.verdict(g, minValid) {
		if good || err != nil {
			return g, e.orProviderState(ctx, q, err)
		}
		if g.LeasedUntil.After(e.DB.Now()) && !e.isInflight(g.Connection) {
			if g, err = e.wait(ctx, g); err != nil {
				return g, err
			}
			continue
		}
		f, err := e.join(ctx, q, claimRequest{Connection: g.Connection, Attempt: g.Attempt}, by)
		if err != nil {
			return g, err
		}
		if f.leased && f.out.Outcome == status.OK && !f.out.Dropped && f.attempt >= g.Attempt {
			return applyResult(e.DB.Now(), g, f.out, minValid)
		}
		if !f.leased {
			if err := e.blockingState(ctx, q); err != nil {
				return g, err
			}
		}
		if g, err = e.reread(ctx, g); err != nil {
			return g, err
		}
	}
}

// verdict says whether a grant's token is good for long enough, or returns why no refresh can help now. Neither: it must be refreshed.
func (e *Engine) verdict(g db.GrantState, minValid time.Duration) (good bool, err error) {
	now := e.DB.Now()
	s := e.statusOf(g)
	switch {
	case s.Health == status.Disconnected:
		return false, &ActionNeededError{Problem: status.ProblemDisconnected}
	case e.queueOf(g.Provider, g.Environment) == nil:
		return false, &PlatformActionError{Problem: s.Problem}
	case g.Lifetime > 0 && minValid > maxValidity(g.Lifetime):
		return false, &MinValidTooLongError{Most: maxValidity(g.Lifetime)}
	case s.Party == status.PartyMerchant && s.Problem != status.ProblemLapsed:
		return false, &ActionNeededError{Problem: s.Problem}
	case g.Token.Access != "" && schedule.Possible(g.ExpiresAt, g.Lifetime, now) && (g.ExpiresAt.IsZero() || g.ExpiresAt.Sub(now) >= requiredOf(g, minValid)):
		return true, nil
	case s.Party == status.PartyMerchant:
		return false, &ActionNeededError{Problem: s.Problem}
	case g.Sealed:
		return false, &PlatformActionError{Problem: status.ProblemSealed}
	case g.Unrenewable && g.ExpiresAt.After(now): // what is left of it is less than was asked for: only the merchant can give more
		return false, &ActionNeededError{Problem: status.ProblemLapsed}
	case g.LeasedUntil.After(now):
		return false, nil
	case e.unsettled(g, now) > 0:
		return false, &ProviderUnavailableError{Outcome: status.Lost, RetryAfter: e.unsettled(g, now)}
	case s.Problem != "":
		return false, &PlatformActionError{Problem: s.Problem}
	case g.LastOutcome != status.OK && g.LastOutcome != status.Lost && g.RefreshAt.After(now):
		return false, &ProviderUnavailableError{Outcome: g.LastOutcome, RetryAfter: g.RefreshAt.Sub(now)}
	}
	return false, nil
}

// statusOf says how the connection of a grant is, without regard to incidents: an attempt finds those out.
func (e *Engine) statusOf(g db.GrantState) status.Status {
	var p status.Provider
	if q := e.queues[g.Provider]; q != nil {
		p = status.Provider{SetUp: true, Environment: q.info.Environment}
	}
	row := status.Row{Environment: g.Environment, Problem: g.Problem}
	if g.Disconnected {
		row.DisconnectedAt = e.DB.Now()
	}
	return status.Of(row, p)
}

// unsettled is how long the answer of a lapsed lease may still come; 0 when there is none or it can be asked for again.
func (e *Engine) unsettled(g db.GrantState, now time.Time) time.Duration {
	q := e.queueOf(g.Provider, g.Environment)
	if q == nil || q.info.ReplaySafe || g.LeasedUntil.IsZero() || g.LeasedUntil.After(now) {
		return 0
	}
	return max(0, g.LeasedUntil.Add(e.Settle).Sub(now))
}

// requiredValidity is how long a token must be good from now on.
func requiredValidity(lifetime, minValid time.Duration) time.Duration {
	if minValid >= 0 {
		return minValid
	}
	return schedule.Reserve(lifetime)
}

// requiredOf is requiredValidity for a grant. Of a token that nothing renews what is left is enough, unless more was asked for: there is no better one.
func requiredOf(g db.GrantState, minValid time.Duration) time.Duration {
	if g.Unrenewable && minValid < 0 {
		return time.Second
	}
	return requiredValidity(g.Lifetime, minValid)
}

// applyResult returns a grant as a successful attempt has left it.
func applyResult(now time.Time, g db.GrantState, out Result, minValid time.Duration) (db.GrantState, error) {
	scope := g.Token.Scope
	g.Token, g.Lifetime, g.ExpiresAt, g.Problem, g.LastOutcome = out.Token, out.Token.Lifetime, out.ExpiresAt, "", status.OK
	g.Token.Refresh = ""
	if len(g.Token.Scope) == 0 {
		g.Token.Scope = scope
	}
	if !g.ExpiresAt.IsZero() && g.ExpiresAt.Sub(now) < requiredValidity(g.Lifetime, minValid) {
		return g, &MinValidTooLongError{Most: maxValidity(g.Lifetime)}
	}
	return g, nil
}

// wait waits until the lease that another process holds has ended, and returns the grant then.
func (e *Engine) wait(ctx context.Context, g db.GrantState) (db.GrantState, error) {
	pauses := backoff.ExponentialBackOff{InitialInterval: 15 * time.Millisecond, RandomizationFactor: 0.5, Multiplier: 1.5, MaxInterval: 250 * time.Millisecond}
	pauses.Reset()
	for {
		if !sleep(ctx, pauses.NextBackOff()) {
			return g, errBusy
		}
		now, err := e.DB.ReadGrant(ctx, g.Connection)
		if err != nil || now.Attempt != g.Attempt || !now.LeasedUntil.After(e.DB.Now()) {
			return now, err
		}
	}
}

// blockingState returns the error of the provider's incident or pause, which keeps leases from being had; nil if there is none.
func (e *Engine) blockingState(ctx context.Context, q *providerQueue) error {
	state, err := e.ProviderState(ctx, q.info.Name, q.info.Environment)
	now := e.DB.Now()
	switch {
	case err != nil:
		return err
	case !state.IncidentSince.IsZero() && state.Reason == status.ReasonClientRejected:
		return &PlatformActionError{Problem: status.ProblemClientRejected}
	case !state.IncidentSince.IsZero():
		return &ProviderUnavailableError{Outcome: status.Temporary, Incident: true, RetryAfter: max(10*time.Second, state.NextProbe.Sub(now))}
	case state.PausedUntil.After(now):
		return &ProviderUnavailableError{Outcome: status.RateLimited, RetryAfter: state.PausedUntil.Sub(now)}
	}
	return nil
}

// orProviderState returns err or, if err is that the provider is unavailable, the error of its incident or pause.
func (e *Engine) orProviderState(ctx context.Context, q *providerQueue, err error) error {
	var trouble *ProviderUnavailableError
	if !errors.As(err, &trouble) || trouble.Outcome == status.Lost {
		return err
	}
	return cmp.Or(e.blockingState(ctx, q), err)
}

// reread reads a grant again after an attempt, and first waits a little where it is as it was.
func (e *Engine) reread(ctx context.Context, g db.GrantState) (db.GrantState, error) {
	now, err := e.DB.ReadGrant(ctx, g.Connection)
	if err == nil && now.Token.Access == "" && !now.Sealed && !now.Disconnected {
		return now, &PlatformActionError{Problem: status.ProblemSealed} // there is no grant, which only a faulty restore leaves behind
	}
	if err == nil && now.Attempt == g.Attempt && !now.LeasedUntil.After(e.DB.Now()) {
		// No slot was free, or another statement held the row: neither is a failed token.
		if !sleep(ctx, jitter(40*time.Millisecond)) {
			return now, errBusy
		}
	}
	return now, err
}

// errBusy: no lease could be had in time. errCrowded: too many others wait, or no call to the provider has ended for long.
var (
	errBusy    = &ProviderUnavailableError{Outcome: status.Busy, RetryAfter: time.Second}
	errCrowded = &ProviderUnavailableError{Outcome: status.Busy, RetryAfter: 10 * time.Second}
)

// waitLimit is how long a caller waits at most for a refresh: for a slot, the provider and the save.
func (e *Engine) waitLimit() time.Duration { return e.Term * 2 / 3 }

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// RefreshNow refreshes a connection whatever its schedule says and returns the outcome; it joins an attempt under way. It returns
// *ActionNeededError if the connection is disconnected, *PlatformActionError if the provider is not set up for it, pg.ErrNotFound
// if it does not exist, and seal.ErrUnknownKey where another process may refresh it.
func (e *Engine) RefreshNow(ctx context.Context, id pg.ID, by audit.Actor) (Result, error) {
	readCtx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	g, err := e.DB.ReadGrant(readCtx, id)
	if err != nil {
		return Result{}, err
	}
	return e.RefreshGrant(ctx, g, by)
}

// RefreshGrant is RefreshNow for a grant that was just read. Where there is no lease, Connection, Provider, Environment and
// Disconnected are enough of it.
func (e *Engine) RefreshGrant(ctx context.Context, g db.GrantState, by audit.Actor) (Result, error) {
	q := e.queueOf(g.Provider, g.Environment)
	if q != nil {
		if err := q.admit(); err != nil {
			return Result{}, err
		}
		defer q.done()
	}
	ctx, cancel := context.WithTimeout(ctx, e.waitLimit())
	defer cancel()
	for {
		now := e.DB.Now()
		switch {
		case g.Disconnected:
			return Result{}, &ActionNeededError{Problem: status.ProblemDisconnected}
		case q == nil:
			return Result{}, &PlatformActionError{Problem: e.statusOf(g).Problem}
		case g.LeasedUntil.After(now) && !e.isInflight(g.Connection):
			then, err := e.wait(ctx, g)
			if err != nil {
				return Result{}, err
			}
			if then.Attempt != g.Attempt {
				return storedResult(e.DB.Now(), then), nil
			}
			g = then
			continue
		case e.unsettled(g, now) > 0:
			return Result{Outcome: status.Lost, RetryAfter: e.unsettled(g, now)}, nil
		}
		f, err := e.join(ctx, q, claimRequest{Connection: g.Connection, Attempt: -1, Force: true}, by)
		if err != nil {
			return Result{}, err
		}
		if f.leased && f.out.Outcome != status.Busy && !f.out.Dropped {
			if f.out.Outcome == status.OK && q.troubled.Load() {
				e.recovered(q)
			}
			return f.out, nil
		}
		if g, err = e.reread(ctx, g); err != nil {
			return Result{}, err
		}
	}
}

// storedResult is the result of an attempt that another process made.
func storedResult(now time.Time, g db.GrantState) Result {
	out := Result{Outcome: g.LastOutcome, Problem: g.Problem, Token: g.Token, ExpiresAt: g.ExpiresAt, RefreshedAt: g.RefreshedAt, RefreshAt: g.RefreshAt}
	out.Call.Code = g.LastCode
	if g.LastOutcome != status.OK && g.RefreshAt.After(now) {
		out.RetryAfter = g.RefreshAt.Sub(now)
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
		e.startAttempt(func() {
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

// startAttempt runs an attempt on demand, in a goroutine that finished another within the last second if there is one: its stack has grown
// to the size that an attempt needs.
func (e *Engine) startAttempt(attempt func()) {
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
	if f.err = e.CheckSaves(e.ctx); f.err != nil {
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
	l, err := q.claim(e.ctx, want)
	if f.err = err; err != nil || l == nil {
		return
	}
	f.leased, f.attempt = true, l.Attempt
	if f.out, _ = e.attempt(q, l, by, false); errors.Is(l.Unsealed, seal.ErrUnknownKey) {
		f.err = l.Unsealed
	}
}
