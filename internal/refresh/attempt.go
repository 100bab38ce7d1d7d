package refresh

import (
	"context"
	"errors"
	"net/http"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/refresh/schedule"
	"patchbay/internal/status"
)

// Outcome is what came of one attempt.
type Outcome struct {
	Class      status.Outcome  // Lost: an earlier answer may still come; Busy: nothing was sent
	Problem    status.Problem  // what was written on the connection
	Incident   bool            // the provider is failing for everybody: nothing was counted
	RetryAfter time.Duration   // when another try is worth it; 0 when now or never
	Call       connectors.Call // the last exchange with the provider
	// When it succeeded:
	Token       connectors.Token
	ExpiresAt   time.Time
	RefreshedAt time.Time
	RefreshAt   time.Time // when it is renewed next
}

// attempt carries out one claimed refresh: call, save first, look later. next: the save may claim another that is due.
func (e *Engine) attempt(l *lane, lease *db.Lease, by audit.Actor, next bool) (Outcome, *db.Lease) {
	ctx := e.life
	if lease.Unsealed != nil {
		e.Log.Error("a grant does not open", "connection", lease.Connection, "err", lease.Unsealed)
		return e.fail(ctx, l, lease, db.Failure{Class: status.ClientRejected, Code: string(status.ProblemSealed), Problem: status.ProblemSealed, After: time.Hour, Certain: true}, db.Told{By: by, Note: db.NoteSealed}), nil
	}
	if lease.Lost {
		e.tell(ctx, lease, status.RefreshLost, status.Lost)
		e.Count(lease.Provider, lease.Environment, "refresh", status.Lost, 0)
	}
	if lease.Until.Sub(e.DB.Now()) < e.Term/2 {
		if err := e.leases.Release(ctx, lease); err != nil {
			e.Log.Warn("lease not released", "connection", lease.Connection, "err", err)
		}
		return Outcome{Class: status.Busy}, nil
	}

	token, calls, obtained, err := e.call(l, lease.Grant)
	var refusal *connectors.RejectedError
	if errors.As(err, &refusal) && !refusal.ClientFault && lease.Spare != nil && lease.Until.Sub(e.DB.Now()) >= e.Term/2 {
		// An answer that came late was good too: it is tried before this no is believed.
		lease.Grant, lease.Spare = *lease.Spare, nil
		token, calls, obtained, err = e.call(l, lease.Grant)
	}
	call := calls.Last()
	class := connectors.OutcomeOf(err)
	e.Count(lease.Provider, lease.Environment, "refresh", class, call.Took)
	told := db.Told{By: by, Call: call}
	if err == nil {
		return e.keep(ctx, l, lease, token, obtained, told, next)
	}
	f := e.failure(ctx, lease, class, calls, err)
	switch f.Problem { // its cause is known: it is no sign that we are the ones refused
	case status.ProblemInterrupted:
		told.Note = db.NoteInterrupted
	case status.ProblemRevoked:
		told.Note = db.NoteRevoked
	case status.ProblemLapsed:
		told.Note = db.NoteUnsent
	}
	return e.fail(ctx, l, lease, f, told), nil
}

// call asks the provider, with one deadline for all that the connector does. The time before the call is the earliest at which
// the answer can have been made.
func (e *Engine) call(l *lane, g connectors.Grant) (token connectors.Token, calls *connectors.Calls, obtained time.Time, err error) {
	ctx, cancel := context.WithTimeout(e.life, e.Deadline)
	defer cancel()
	ctx, calls = connectors.WithCalls(ctx)
	defer func() {
		if fault := recover(); fault != nil { // a connector's mistake must not end the others' refreshes
			err = errors.New("the connector failed")
			e.Log.Error("panic in a connector", "provider", l.info.Name)
		}
	}()
	obtained = e.DB.Now()
	token, err = l.connector.Refresh(ctx, g)
	if err == nil && token.Access == "" {
		err = errors.New("an answer without an access token")
	}
	if _, keyed := l.connector.(connectors.CredentialConnector); keyed {
		token.RefreshLifetime = 0 // its end threatens nobody: what was typed begins again
	}
	return token, calls, obtained, err
}

// keep saves a good answer: first, and until it lands.
func (e *Engine) keep(ctx context.Context, l *lane, lease *db.Lease, token connectors.Token, obtained time.Time, told db.Told, next bool) (Outcome, *db.Lease) {
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		kept, err := l.Save(ctx, lease, token, obtained, l.info.KeepAlive, told, next && !e.ending())
		if err == nil {
			if kept.Fate == db.Dropped {
				e.drop(ctx, l, lease, token)
			}
			out := Outcome{Class: status.OK, Call: told.Call, Token: token, RefreshedAt: obtained, RefreshAt: kept.RefreshAt}
			if token.Lifetime > 0 {
				out.ExpiresAt = obtained.Add(token.Lifetime)
			}
			return out, kept.Next
		}
		e.Log.Warn("a good answer is not saved yet", "connection", lease.Connection, "err", err)
		if !sleep(ctx, pause) {
			e.Log.Error("a good answer was lost at the end of the process", "connection", lease.Connection)
			return Outcome{Class: status.Temporary, Call: told.Call}, nil
		}
	}
}

// drop ends access that nobody wants any more: the connection was made anew or ended while the provider answered. A revocation
// that would end the account's new access too is left alone.
func (e *Engine) drop(ctx context.Context, l *lane, lease *db.Lease, token connectors.Token) {
	revoker, can := l.connector.(connectors.Revoker)
	if !can || l.info.RevokesAccount {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.Deadline)
	defer cancel()
	g := lease.Grant
	g.Token = token
	if err := revoker.Revoke(ctx, g); err != nil {
		e.Log.Warn("an unwanted token was not revoked", "connection", lease.Connection, "class", connectors.OutcomeOf(err))
	}
}

// failure says what is to be written down of an attempt without a token.
func (e *Engine) failure(ctx context.Context, lease *db.Lease, class status.Outcome, calls *connectors.Calls, err error) db.Failure {
	call := calls.Last()
	f := db.Failure{Class: class, Code: call.Code}
	var refusal *connectors.RejectedError
	var later *connectors.RateLimitedError
	var trouble *connectors.TemporaryError
	switch {
	case errors.As(err, &refusal):
		if f.Code == "" {
			f.Code = refusal.Reason
		}
		f.Problem = status.ProblemClientRejected
		if refusal.ClientFault {
			f.After = schedule.Backoff(lease.Failures+3, lease.Connection)
			break
		}
		f.Problem = status.ProblemRejected
		if refusal.Unsent {
			f.Problem, f.Certain = status.ProblemLapsed, true
		} else if lease.LostAnswer {
			f.Problem = status.ProblemInterrupted
		} else if hinted, err := e.DB.Hinted(ctx, lease.Connection); err == nil && hinted {
			f.Problem, f.Certain = status.ProblemRevoked, true
		}
	case errors.As(err, &later):
		before, err := e.DB.LaterInARow(ctx, lease.Connection)
		if err != nil {
			e.Log.Warn("earlier attempts not read", "connection", lease.Connection, "err", err)
		}
		f.After = schedule.RetryAfter(before+1, later.RetryAfter, lease.Connection)
	default:
		f.Class = status.Temporary
		f.After = schedule.Backoff(lease.Failures+1, lease.Connection)
		if errors.As(err, &trouble) {
			f.After = max(f.After, trouble.RetryAfter)
		}
		f.Lost = call.Sent && call.Status == 0
	}
	return f
}

// fail writes down an attempt without a token, as long as the lease lasts, and judges whether the provider fails for everybody.
func (e *Engine) fail(ctx context.Context, l *lane, lease *db.Lease, f db.Failure, told db.Told) Outcome {
	out := Outcome{Class: f.Class, Problem: f.Problem, RetryAfter: f.After, Call: told.Call}
	if f.Class == status.RateLimited && told.Call.Status == http.StatusTooManyRequests {
		if _, redirects := l.connector.(connectors.Redirector); redirects { // it is our client that is limited, not this merchant's
			if err := e.DB.Pause(ctx, l.info.Name, l.info.Environment, e.DB.Now().Add(f.After)); err != nil {
				e.Log.Warn("provider not paused", "provider", l.info.Name, "err", err)
			}
		}
	}
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		frozen, superseded, err := e.leases.Record(ctx, lease, f, told)
		if err == nil {
			if out.Incident = frozen; frozen {
				out.Problem = ""
			}
			if !frozen && !superseded && f.Class != status.RateLimited && !f.Certain {
				e.judge(ctx, l)
			}
			return out
		}
		e.Log.Warn("an outcome is not written down yet", "connection", lease.Connection, "err", err)
		if !sleep(ctx, pause) || e.DB.Now().After(lease.Until) {
			return out
		}
	}
}

// judge opens an incident when the latest attempts make one. Whatever failed is judged by somebody, but not each by itself.
func (e *Engine) judge(ctx context.Context, l *lane) {
	l.unjudged.Store(true)
	for l.unjudged.Load() && l.judging.TryLock() {
		l.unjudged.Store(false)
		reason, err := e.DB.Judge(ctx, l.info.Name, l.info.Environment)
		if err == nil && reason != "" {
			var opened bool
			opened, err = e.DB.OpenIncident(ctx, l.info.Name, l.info.Environment, reason, audit.System, e.DB.Now().Add(30*time.Second))
			if opened {
				e.Log.Warn("incident opened", "provider", l.info.Name, "reason", reason)
			}
		}
		if err != nil {
			e.Log.Warn("attempts not judged", "provider", l.info.Name, "err", err)
		}
		l.judging.Unlock()
	}
}

func (e *Engine) tell(ctx context.Context, lease *db.Lease, kind status.Kind, class status.Outcome) {
	err := e.DB.Audit.Record(ctx, audit.Event{Kind: kind, Class: class, ConnectionID: lease.Connection, MerchantID: lease.Merchant, Provider: lease.Provider})
	if err != nil {
		e.Log.Warn("event not written", "kind", kind, "err", err)
	}
}
