package refresh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// ActionNeededError says that there is no token until the merchant acts.
type ActionNeededError struct{ Problem status.Problem }

func (a *ActionNeededError) Error() string { return "the merchant must act: " + string(a.Problem) }

// ProviderTroubleError says that the provider gives no token just now. It is tried again by itself.
type ProviderTroubleError struct {
	RetryAfter time.Duration
	Incident   bool           // the provider fails for several merchants
	Class      status.Outcome // of the last attempt: Temporary, RateLimited, Lost or Busy
}

func (t *ProviderTroubleError) Error() string {
	return "the provider is in trouble: " + string(t.Class)
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

// Fresh returns a reading whose token is good for at least minValid, refreshing first where need be: by itself, or by joining
// whoever is at it here or elsewhere. Else the error says why not and who must act: *ActionNeededError, *ProviderTroubleError, *PlatformActionError,
// *MinValidTooLongError, pg.ErrNotFound.
func (e *Engine) Fresh(ctx context.Context, id pg.ID, minValid time.Duration, by audit.Actor) (db.Reading, error) {
	r, err := e.DB.ReadGrant(ctx, id)
	if err != nil {
		return r, err
	}
	return e.freshen(ctx, r, minValid, by)
}

// Good says whether a token that was just handed out will do as it is; when not, Fresh knows what to do about it.
func (e *Engine) Good(h db.Handout, minValid time.Duration) bool {
	return e.laneOf(h.Provider, h.Environment) != nil && (h.Lifetime == 0 || minValid <= mostOf(h.Lifetime)) &&
		(h.ExpiresAt.IsZero() || h.ExpiresAt.Sub(e.DB.Now()) >= need(h.Lifetime, minValid))
}

// mostOf is the longest that a token of this lifetime may be asked to be good for.
func mostOf(lifetime time.Duration) time.Duration { return lifetime * 8 / 10 }

func (e *Engine) freshen(ctx context.Context, r db.Reading, minValid time.Duration, by audit.Actor) (db.Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, e.Term)
	defer cancel()
	for {
		good, err := e.verdict(r, minValid)
		if good || err != nil {
			return r, err
		}
		l := e.laneOf(r.Provider, r.Environment)
		if r.LeasedUntil.After(e.DB.Now()) && !e.flying(r.Connection) {
			if r, err = e.wait(ctx, r); err != nil {
				return r, err
			}
			continue
		}
		f, err := e.lead(ctx, l, db.Want{Connection: r.Connection, Attempt: r.Attempt}, by)
		if err != nil {
			return r, err
		}
		if f.led && f.out.Class == status.OK && f.attempt >= r.Attempt {
			return adopt(e.DB.Now(), r, f.out, minValid)
		}
		if !f.led {
			if err := e.held(ctx, l, r); err != nil {
				return r, err
			}
		}
		if r, err = e.again(ctx, r); err != nil {
			return r, err
		}
	}
}

// verdict says whether a reading will do, or why nothing will be done about it now. Neither: somebody has to refresh.
func (e *Engine) verdict(r db.Reading, minValid time.Duration) (good bool, err error) {
	now := e.DB.Now()
	s := e.statusOf(r)
	switch {
	case s.Health == status.Disconnected:
		return false, &ActionNeededError{Problem: status.ProblemDisconnected}
	case e.laneOf(r.Provider, r.Environment) == nil:
		return false, &PlatformActionError{Problem: s.Problem}
	case r.Lifetime > 0 && minValid > mostOf(r.Lifetime):
		return false, &MinValidTooLongError{Most: mostOf(r.Lifetime)}
	case s.Party == status.PartyMerchant:
		return false, &ActionNeededError{Problem: s.Problem}
	case r.Token.Access != "" && (r.ExpiresAt.IsZero() || r.ExpiresAt.Sub(now) >= need(r.Lifetime, minValid)):
		return true, nil
	case r.Sealed:
		return false, &PlatformActionError{Problem: status.ProblemSealed}
	case r.LeasedUntil.After(now):
		return false, nil
	case e.unsettled(r, now) > 0:
		return false, &ProviderTroubleError{Class: status.Lost, RetryAfter: e.unsettled(r, now)}
	case s.Problem != "":
		return false, &PlatformActionError{Problem: s.Problem}
	case r.LastClass != status.OK && r.LastClass != status.Lost && r.RefreshAt.After(now):
		return false, &ProviderTroubleError{Class: r.LastClass, RetryAfter: r.RefreshAt.Sub(now)}
	}
	return false, nil
}

// statusOf says how the connection of a reading is, without regard to incidents: an attempt finds those out.
func (e *Engine) statusOf(r db.Reading) status.Status {
	var p status.Provider
	if l := e.lanes[r.Provider]; l != nil {
		p = status.Provider{SetUp: true, Environment: l.info.Environment}
	}
	row := status.Row{Environment: r.Environment, Problem: r.Problem}
	if r.Disconnected {
		row.DisconnectedAt = e.DB.Now()
	}
	return status.Of(row, p)
}

// unsettled is how long the answer of a lapsed lease may still come; 0 when there is none or it can be asked for again.
func (e *Engine) unsettled(r db.Reading, now time.Time) time.Duration {
	l := e.laneOf(r.Provider, r.Environment)
	if l == nil || l.info.ReplaySafe || r.LeasedUntil.IsZero() || r.LeasedUntil.After(now) {
		return 0
	}
	return max(0, r.LeasedUntil.Add(e.Settle).Sub(now))
}

// need is how long a token must still be good.
func need(lifetime, minValid time.Duration) time.Duration {
	if minValid >= 0 {
		return minValid
	}
	if lifetime > 0 {
		return min(time.Minute, lifetime/5)
	}
	return time.Minute
}

// adopt is the reading after a refresh that was just seen to succeed.
func adopt(now time.Time, r db.Reading, out Outcome, minValid time.Duration) (db.Reading, error) {
	scope := r.Token.Scope
	r.Token, r.Lifetime, r.ExpiresAt, r.Problem, r.LastClass = out.Token, out.Token.Lifetime, out.ExpiresAt, "", status.OK
	r.Token.Refresh = ""
	if len(r.Token.Scope) == 0 {
		r.Token.Scope = scope
	}
	if !r.ExpiresAt.IsZero() && r.ExpiresAt.Sub(now) < need(r.Lifetime, minValid) {
		return r, &MinValidTooLongError{Most: mostOf(r.Lifetime)}
	}
	return r, nil
}

// wait lets whoever holds the lease elsewhere finish, and returns the reading then.
func (e *Engine) wait(ctx context.Context, r db.Reading) (db.Reading, error) {
	for pause := 15 * time.Millisecond; ; pause = min(pause*3/2, 250*time.Millisecond) {
		if !sleep(ctx, jitter(pause)) {
			return r, &ProviderTroubleError{Class: status.Busy, RetryAfter: time.Second}
		}
		now, err := e.DB.ReadGrant(ctx, r.Connection)
		if err != nil || now.Attempt != r.Attempt || !now.LeasedUntil.After(e.DB.Now()) {
			return now, err
		}
	}
}

// held says why a lease could not be had, when that is the provider's state; nil when asking again is worth it.
func (e *Engine) held(ctx context.Context, l *lane, r db.Reading) error {
	state, err := e.DB.ProviderState(ctx, l.info.Name, l.info.Environment)
	now := e.DB.Now()
	switch {
	case err != nil:
		return err
	case !state.IncidentSince.IsZero() && state.Reason == status.ReasonClientRejected:
		return &PlatformActionError{Problem: status.ProblemClientRejected}
	case !state.IncidentSince.IsZero():
		return &ProviderTroubleError{Class: status.Temporary, Incident: true, RetryAfter: max(10*time.Second, state.NextProbe.Sub(now))}
	case state.PausedUntil.After(now):
		return &ProviderTroubleError{Class: status.RateLimited, RetryAfter: state.PausedUntil.Sub(now)}
	}
	return nil
}

func (e *Engine) again(ctx context.Context, r db.Reading) (db.Reading, error) {
	now, err := e.DB.ReadGrant(ctx, r.Connection)
	if err == nil && now.Attempt == r.Attempt && !now.LeasedUntil.After(e.DB.Now()) {
		// No slot was free, or another statement held the row: neither is a failed token.
		if !sleep(ctx, jitter(40*time.Millisecond)) {
			return now, &ProviderTroubleError{Class: status.Busy, RetryAfter: time.Second}
		}
	}
	return now, err
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// Now refreshes a connection on somebody's word, whatever its schedule says, and returns the outcome on the spot; it joins an
// attempt under way. *ActionNeededError when it is disconnected, *PlatformActionError when the provider is not set up for it, pg.ErrNotFound.
func (e *Engine) Now(ctx context.Context, id pg.ID, by audit.Actor) (Outcome, error) {
	r, err := e.DB.ReadGrant(ctx, id)
	if err != nil {
		return Outcome{}, err
	}
	return e.Renew(ctx, r, by)
}

// Renew is Now for a reading that was just made. Where no lease stands, Connection, Provider, Environment and Disconnected are
// enough of it.
func (e *Engine) Renew(ctx context.Context, r db.Reading, by audit.Actor) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, e.Term)
	defer cancel()
	for {
		l := e.laneOf(r.Provider, r.Environment)
		now := e.DB.Now()
		switch {
		case r.Disconnected:
			return Outcome{}, &ActionNeededError{Problem: status.ProblemDisconnected}
		case l == nil:
			return Outcome{}, &PlatformActionError{Problem: e.statusOf(r).Problem}
		case r.LeasedUntil.After(now) && !e.flying(r.Connection):
			then, err := e.wait(ctx, r)
			if err != nil {
				return Outcome{}, err
			}
			if then.Attempt != r.Attempt {
				return adopted(e.DB.Now(), then), nil
			}
			r = then
			continue
		case e.unsettled(r, now) > 0:
			return Outcome{Class: status.Lost, RetryAfter: e.unsettled(r, now)}, nil
		}
		f, err := e.lead(ctx, l, db.Want{Connection: r.Connection, Attempt: -1, Regardless: true}, by)
		if err != nil {
			return Outcome{}, err
		}
		if f.led && f.out.Class != status.Busy {
			if f.out.Class == status.OK && l.troubled.Load() {
				e.recovered(l)
			}
			return f.out, nil
		}
		if r, err = e.DB.ReadGrant(ctx, r.Connection); err != nil {
			return Outcome{}, err
		}
		if !r.LeasedUntil.After(e.DB.Now()) && !sleep(ctx, jitter(40*time.Millisecond)) {
			return Outcome{}, &ProviderTroubleError{Class: status.Busy, RetryAfter: time.Second}
		}
	}
}

// adopted is the outcome of an attempt that another process made.
func adopted(now time.Time, r db.Reading) Outcome {
	out := Outcome{Class: r.LastClass, Problem: r.Problem, Token: r.Token, ExpiresAt: r.ExpiresAt, RefreshedAt: r.RefreshedAt, RefreshAt: r.RefreshAt}
	out.Call.Code = r.LastCode
	if r.LastClass != status.OK && r.RefreshAt.After(now) {
		out.RetryAfter = r.RefreshAt.Sub(now)
	}
	return out
}

// flight is an attempt on demand that this process makes; all who ask meanwhile join it.
type flight struct {
	done    chan struct{}
	led     bool // the lease was had; else out means nothing
	attempt int64
	out     Outcome
	err     error
}

func (e *Engine) flying(id pg.ID) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.flights[id] != nil
}

// lead makes an attempt, or joins the one this process is making. The attempt goes on when ctx ends.
func (e *Engine) lead(ctx context.Context, l *lane, want db.Want, by audit.Actor) (*flight, error) {
	e.mu.Lock()
	f := e.flights[want.Connection]
	if f == nil {
		if e.stopping {
			e.mu.Unlock()
			return nil, &ProviderTroubleError{Class: status.Busy, RetryAfter: time.Second}
		}
		f = &flight{done: make(chan struct{})}
		e.flights[want.Connection] = f
		e.underway.Go(func() { e.fly(l, want, by, f) })
	}
	e.mu.Unlock()
	select {
	case <-f.done:
		return f, f.err
	case <-ctx.Done():
		return nil, &ProviderTroubleError{Class: status.Busy, RetryAfter: time.Second}
	}
}

func (e *Engine) fly(l *lane, want db.Want, by audit.Actor, f *flight) {
	defer func() {
		e.mu.Lock()
		delete(e.flights, want.Connection)
		e.mu.Unlock()
		close(f.done)
	}()
	l.slots <- struct{}{}
	defer func() {
		<-l.slots
		l.tell()
	}()
	lease, err := l.Claim(e.life, want)
	if f.err = err; err != nil || lease == nil {
		return
	}
	f.led, f.attempt = true, lease.Attempt
	f.out, _ = e.attempt(l, lease, by, false)
}

// verify takes up webhooks' hints that are due: each is believed only after the provider itself has refused.
func (e *Engine) verify(ctx context.Context, l *lane) (int, error) {
	ids, err := e.DB.DueVerifications(ctx, l.info.Name, l.info.Environment, cap(l.slots))
	for _, id := range ids {
		e.underway.Go(func() {
			if _, err := e.Now(e.life, id, audit.Actor{Kind: "provider"}); err != nil {
				e.Log.Warn("a hint was not verified", "connection", id, "err", err)
			}
		})
	}
	return len(ids), err
}

// Verify takes a provider's hint that access to an account has ended: every living connection of it, whoever's it is, is refreshed
// at once and again after 1, 10 and 60 minutes, at most once a minute. Nothing is marked before the provider has said no.
func (e *Engine) Verify(ctx context.Context, provider, account string) error {
	l := e.lanes[provider]
	if l == nil {
		return nil
	}
	_, err := e.DB.Hint(ctx, l.info.Name, l.info.Environment, account)
	return err
}
