package refresh

import (
	"errors"

	"patchbay/internal/status"
)

// Err returns the error that says why there is no new token, and who must act; nil if there is one, or if nothing can renew the old.
func (r Result) Err() error {
	switch {
	case r.Outcome == status.OK, r.Outcome == status.Unrenewable:
		return nil
	case r.Outcome == status.Skipped:
		return &ActionNeededError{Problem: status.ProblemDisconnected}
	case r.Outcome == status.ClientRejected, r.Problem.Party() == status.PartyPlatform:
		return &PlatformActionError{Problem: r.Problem}
	case r.Outcome == status.Rejected && r.Problem != "":
		return &ActionNeededError{Problem: r.Problem}
	}
	return &ProviderUnavailableError{Outcome: r.Outcome, RetryAfter: r.RetryAfter, Incident: r.Incident}
}

// ResultOf is the reverse of Err: it returns the result that an error was made of. It returns false for errors that say nothing of a
// connection.
func ResultOf(err error) (Result, bool) {
	var needed *ActionNeededError
	var platform *PlatformActionError
	var trouble *ProviderUnavailableError
	switch {
	case errors.As(err, &needed) && needed.Problem == status.ProblemDisconnected:
		return Result{Outcome: status.Skipped}, true
	case errors.As(err, &needed):
		return Result{Outcome: status.Rejected, Problem: needed.Problem}, true
	case errors.As(err, &platform):
		return Result{Outcome: status.ClientRejected, Problem: platform.Problem}, true
	case errors.As(err, &trouble):
		return Result{Outcome: trouble.Outcome, RetryAfter: trouble.RetryAfter, Incident: trouble.Incident}, true
	}
	return Result{}, false
}
