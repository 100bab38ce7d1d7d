package refresh

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/cenkalti/backoff/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/schedule"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// Result is the result of one attempt.
type Result struct {
	Outcome    status.Outcome  // Lost: an earlier answer may still come; Busy and Unrenewable: nothing was sent
	Problem    status.Problem  // what was written on the connection
	Incident   bool            // the provider has an incident: nothing was counted
	RetryAfter time.Duration   // when another try is worth it; 0 when now or never
	Call       connectors.Call // the last exchange with the provider
	Dropped    bool            // the connection ended or was made anew meanwhile: what came is not its
	// When it succeeded:
	Token       connectors.Token
	ExpiresAt   time.Time // also of the token that stays, if Unrenewable
	RefreshedAt time.Time
	RefreshAt   time.Time // when it is refreshed next
}

// attempt carries out one claimed refresh: call, save first, look later. next: the save may claim another that is due.
func (e *Engine) attempt(q *providerQueue, l *lease, by audit.Actor, next bool) (Result, *lease) {
	ctx := e.ctx
	l.open(e.DB)
	if errors.Is(l.Unsealed, seal.ErrUnknownKey) { // it is for a process that has the key
		e.release(ctx, l)
		return Result{Outcome: status.Busy}, nil
	}
	if l.Unsealed != nil {
		e.Log.Error("a grant does not open", "connection", l.Connection, "err", l.Unsealed)
		f := failure{Outcome: status.ClientRejected, Code: string(status.ProblemSealed), Problem: status.ProblemSealed, After: time.Hour, Certain: true}
		return e.fail(ctx, q, l, f, attemptInfo{By: by, Note: status.NoteSealed}), nil
	}
	switch {
	case q.info.Renewable(l.Grant):
	case l.ExpiresAt.IsZero() || l.ExpiresAt.After(e.DB.Now()):
		e.releaseUnrenewable(ctx, l)
		return Result{Outcome: status.Unrenewable, ExpiresAt: l.ExpiresAt}, nil
	default:
		f := failure{Outcome: status.Rejected, Code: status.NoteUnsent, Problem: status.ProblemLapsed, Certain: true}
		return e.fail(ctx, q, l, f, attemptInfo{By: by, Note: status.NoteUnsent}), nil
	}
	if l.LostOutcome {
		e.logEvent(ctx, l, status.RefreshLost, status.Lost)
		e.Count(l.Provider, l.Environment, "refresh", status.Lost, 0)
	}
	if l.Until.Sub(e.DB.Now()) < e.Term/2 {
		e.release(ctx, l)
		return Result{Outcome: status.Busy}, nil
	}

	token, calls, obtained, err := e.call(q, l)
	f := e.failureOf(ctx, q, l, calls.Last(), err)
	if f.Outcome == status.Rejected && l.LateGrant != nil && l.Until.Sub(e.DB.Now()) >= e.Term/2 {
		// An answer that came late was good too: it is tried before this rejection is believed.
		l.Grant, l.LateGrant = *l.LateGrant, nil
		token, calls, obtained, err = e.call(q, l)
		f = e.failureOf(ctx, q, l, calls.Last(), err)
	}
	call := calls.Last()
	e.Count(l.Provider, l.Environment, "refresh", f.Outcome, call.Took)
	info := attemptInfo{By: by, Call: call, Note: connectors.ReasonOf(err)}
	if err == nil {
		return e.saveAnswer(ctx, q, l, token, obtained, info, next)
	}
	e.Log.Info("not refreshed", "provider", l.Provider, "connection", l.Connection, "outcome", f.Outcome, "status", call.Status, "reason", info.Note)
	switch f.Problem { // its cause is known: it is no sign that our client is the one rejected
	case status.ProblemInterrupted:
		info.Note = status.NoteInterrupted
		if l.Restored {
			info.Note = status.NoteRestored
		}
	case status.ProblemRevoked:
		info.Note = status.NoteRevoked
	case status.ProblemLapsed:
		info.Note = status.NoteUnsent
	}
	return e.fail(ctx, q, l, f, info), nil
}

// cutOffPause is how long after a cut-off answer the same refresh is sent again: within the grace period in which providers take a
// rotated refresh token once more (RFC 9700 section 4.14.2). Without one nothing is worse than after Backoff.
const cutOffPause = time.Second

// call asks the provider, and once more if its answer was cut off and the lease lasts long enough. A rejection that follows is
// then explained by the lost answer.
func (e *Engine) call(q *providerQueue, l *lease) (token connectors.Token, calls *connectors.Calls, obtained time.Time, err error) {
	token, calls, obtained, err = e.callOnce(q, l.Grant)
	var temporary *connectors.TemporaryError
	if !errors.As(err, &temporary) || temporary.Reason != connectors.ReasonCutOff || !unanswered(calls.Last()) {
		return token, calls, obtained, err
	}
	l.LostAnswer = true
	if !sleep(e.ctx, cutOffPause) || l.Until.Sub(e.DB.Now()) < e.Term/2 {
		return token, calls, obtained, err
	}
	return e.callOnce(q, l.Grant)
}

// unanswered says that a request may have been carried out, and that its answer will never be known.
func unanswered(call connectors.Call) bool { return call.Sent && call.Status == 0 }

// callOnce asks with one deadline for all that the connector does. The time before the call is the earliest at which the answer
// can have been made.
func (e *Engine) callOnce(q *providerQueue, g connectors.Grant) (token connectors.Token, calls *connectors.Calls, obtained time.Time, err error) {
	ctx, cancel := context.WithTimeout(e.ctx, e.Deadline)
	defer cancel()
	ctx, calls = connectors.WithCalls(ctx)
	defer func() {
		if fault := recover(); fault != nil { // a connector's mistake must not end the others' refreshes
			err = errors.New("the connector failed")
			e.Log.Error("panic in a connector", "provider", q.info.Name)
		}
	}()
	obtained = e.DB.Now()
	token, err = q.connector.Refresh(ctx, g)
	if err == nil && token.Access == "" {
		err = errors.New("an answer without an access token")
	}
	return token, calls, obtained, err
}

// saveAnswer saves a good answer, and tries until it is saved.
func (e *Engine) saveAnswer(ctx context.Context, q *providerQueue, l *lease, token connectors.Token, obtained time.Time, info attemptInfo, next bool) (Result, *lease) {
	result, err := retryWrite(ctx, e, func(again bool) (saveResult, error) {
		result, err := q.save(ctx, l, token, obtained, info, next && !e.isStopping(), again)
		if err != nil {
			e.Log.Warn("a good answer is not saved yet", "connection", l.Connection, "err", err)
		}
		return result, err
	})
	if err != nil {
		e.Log.Error("a good answer was lost at the end of the process", "connection", l.Connection)
		return Result{Outcome: status.Temporary, Call: info.Call}, nil
	}
	if result.Outcome == dropped {
		e.revokeUnwanted(ctx, q, l, token)
		return Result{Outcome: status.OK, Call: info.Call, Dropped: true}, result.Next
	}
	out := Result{Outcome: status.OK, Call: info.Call, Token: token, RefreshedAt: obtained, RefreshAt: result.RefreshAt}
	if token.Lifetime > 0 {
		out.ExpiresAt = obtained.Add(token.Lifetime)
	}
	return out, result.Next
}

// revokeUnwanted ends access that is no longer wanted: the connection ended while the provider answered. Nothing is revoked while any
// merchant has the account connected, as this one has whose connection was made anew: many providers end with one token all that the
// account gave.
func (e *Engine) revokeUnwanted(ctx context.Context, q *providerQueue, l *lease, token connectors.Token) {
	revoker, can := q.connector.(connectors.Revoker)
	if !can || q.info.RevokesAccount {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.Deadline)
	defer cancel()
	if connected, err := e.DB.AccountConnected(ctx, l.Provider, l.Environment, l.Grant.Account); err != nil || connected {
		return
	}
	g := l.Grant
	g.Token = token
	if err := revoker.Revoke(ctx, g); err != nil {
		e.Log.Warn("an unwanted token was not revoked", "connection", l.Connection, "outcome", connectors.OutcomeOf(err))
	}
}

// longFailure is for how long refreshes of one connection may fail until the platform must look into it.
const longFailure = 72 * time.Hour

// failureOf says what is to be recorded of an attempt without a token. Without an error it is zero but for its outcome.
func (e *Engine) failureOf(ctx context.Context, q *providerQueue, l *lease, call connectors.Call, err error) failure {
	f := failure{Outcome: connectors.OutcomeOf(err), Code: call.Code, Lost: l.LostAnswer || unanswered(call)}
	var rejected *connectors.RejectedError
	var limited *connectors.RateLimitedError
	var temporary *connectors.TemporaryError
	var unreadable *connectors.UnreadableError
	switch {
	case err == nil:
	case errors.As(err, &rejected):
		if f.Code == "" {
			f.Code = rejected.Reason
		}
		f.Problem = status.ProblemClientRejected
		if rejected.ClientFault {
			f.After = schedule.Backoff(l.Failures+3, l.Connection)
			break
		}
		if rejected.Unsent {
			f.Problem, f.Certain = status.ProblemLapsed, true
		} else if noticed, err := q.revocationNoticed(ctx, l.Connection); err == nil && noticed && !l.LostAnswer {
			f.Problem, f.Certain = status.ProblemRevoked, true
		} else {
			f.Problem = e.rejection(ctx, l)
		}
	case errors.As(err, &limited):
		before, _ := e.sameInARow(ctx, q, l, status.RateLimited, call)
		f.After = schedule.RetryAfter(before+1, limited.RetryAfter, l.Connection)
	case e.isImplicitRejection(ctx, q, l, call, err):
		f.Outcome, f.Problem = status.Rejected, e.rejection(ctx, l)
	default:
		f.Outcome = status.Temporary
		f.After = schedule.Backoff(l.Failures+1, l.Connection)
		if errors.As(err, &temporary) {
			f.After = max(f.After, temporary.RetryAfter)
		}
		failing := e.DB.Now().Sub(l.FailingSince)
		switch {
		case errors.As(err, &unreadable) && e.isFormatChange(ctx, q, l, call, unreadable):
			f.Problem = status.ProblemUnreadable
		case !l.FailingSince.IsZero() && failing >= longFailure:
			f.Problem = status.ProblemUnanswered
		}
		if !l.FailingSince.IsZero() && failing >= longFailure {
			f.After = max(f.After, schedule.LongBackoff(failing))
		}
	}
	return f
}

// rejection is the problem of a grant that the provider rejects. One whose answer was lost, or that was refreshed before the database
// was put back to an earlier state, may have been spent since: the merchant has ended nothing.
func (e *Engine) rejection(ctx context.Context, l *lease) status.Problem {
	if l.LostAnswer {
		return status.ProblemInterrupted
	}
	restored, err := e.CheckRestore(ctx)
	if err != nil {
		e.Log.Warn("whether the database was restored is not known", "err", err)
	}
	if l.Restored = restored.At.After(l.RefreshedAt); l.Restored {
		return status.ProblemInterrupted
	}
	return status.ProblemRejected
}

// sameAnswers is how often in a row the same unclear answer must come until it counts. implicitRejectionAfter is for how long a status of
// 4xx without a known error must come until it is taken for a rejection.
const (
	sameAnswers            = 3
	implicitRejectionAfter = time.Hour
)

// isImplicitRejection says whether an answer of 4xx without a known error means that the grant is rejected: the same has come back
// before, and since the first time another connection of the provider was refreshed, or an hour has passed. A status that may be
// about our own request or client needs the former.
func (e *Engine) isImplicitRejection(ctx context.Context, q *providerQueue, l *lease, call connectors.Call, err error) bool {
	var temporary *connectors.TemporaryError
	switch {
	case errors.As(err, &temporary) && temporary.Reason == connectors.ReasonBusy:
		return false
	case call.Status < 400 || call.Status > 499:
		return false
	case call.Status == http.StatusUnauthorized || call.Status == http.StatusRequestTimeout || call.Status == http.StatusTooEarly || call.Status == http.StatusTooManyRequests:
		return false
	}
	before, first := e.sameInARow(ctx, q, l, status.Temporary, call)
	if before+1 < sameAnswers {
		return false
	}
	works, err := q.refreshedSince(ctx, l.Connection, first)
	if err != nil {
		e.Log.Warn("earlier attempts not read", "connection", l.Connection, "err", err)
	}
	switch call.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return works
	}
	return works || e.DB.Now().Sub(first) >= implicitRejectionAfter
}

// isFormatChange says whether an answer that cannot be read means that the provider's format has changed, which only the platform can
// put right. A page of HTML is what outages and maintenance show as well, so that it must come three times in a row.
func (e *Engine) isFormatChange(ctx context.Context, q *providerQueue, l *lease, call connectors.Call, unreadable *connectors.UnreadableError) bool {
	switch unreadable.Reason {
	case connectors.ReasonStatus:
		return false
	case connectors.ReasonUnreadable:
		before, _ := e.sameInARow(ctx, q, l, status.Temporary, call)
		return before+1 >= sameAnswers
	}
	return true
}

// sameInARow says how many of a connection's latest attempts in a row had an outcome with the status and code of this call, and when
// the first of them was.
func (e *Engine) sameInARow(ctx context.Context, q *providerQueue, l *lease, outcome status.Outcome, call connectors.Call) (n int, first time.Time) {
	attempts, err := q.latestAttempts(ctx, l.Connection)
	if err != nil {
		e.Log.Warn("earlier attempts not read", "connection", l.Connection, "err", err)
	}
	for _, a := range attempts {
		if a.Outcome != outcome || outcome != status.RateLimited && (a.Status != call.Status || a.Code != call.Code || a.Note == status.NoteIncident) {
			break
		}
		n, first = n+1, a.At
	}
	return n, first
}

// fail records an attempt without a token, as long as the lease lasts, and detects whether the provider fails for several merchants.
func (e *Engine) fail(ctx context.Context, q *providerQueue, l *lease, f failure, info attemptInfo) Result {
	out := Result{Outcome: f.Outcome, Problem: f.Problem, RetryAfter: f.After, Call: info.Call}
	recorded, err := retryWrite(ctx, e, func(bool) (recorded, error) {
		recorded, err := q.record(ctx, l, f, info)
		if err != nil {
			e.Log.Warn("an outcome is not written down yet", "connection", l.Connection, "err", err)
			if e.DB.Now().After(l.Until) {
				err = backoff.Permanent(err)
			}
		}
		return recorded, err
	})
	if err != nil {
		return out
	}
	if out.Incident = recorded.duringIncident; recorded.duringIncident {
		out.Problem = ""
	}
	if f.Outcome == status.RateLimited && info.Call.Status == http.StatusTooManyRequests {
		e.pauseIfLimited(ctx, q, f.After)
	}
	if !recorded.duringIncident && !recorded.superseded && f.Outcome != status.RateLimited && !f.Certain {
		e.detectIncident(ctx, q)
	}
	return out
}

func (e *Engine) logEvent(ctx context.Context, l *lease, kind status.Kind, outcome status.Outcome) {
	if err := e.DB.Audit.Record(ctx, l.event(kind, outcome, attemptInfo{})); err != nil {
		e.Log.Warn("event not written", "kind", kind, "err", err)
	}
}
