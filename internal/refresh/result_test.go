package refresh

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"patchbay/internal/status"
)

func TestAResultSaysWhoMustAct(t *testing.T) {
	for name, c := range map[string]struct {
		result Result
		want   error
	}{
		"a new token":                        {Result{Outcome: status.OK}, nil},
		"a token that nothing renews":        {Result{Outcome: status.Unrenewable}, nil},
		"a connection that has ended":        {Result{Outcome: status.Skipped}, &ActionNeededError{status.ProblemDisconnected}},
		"a grant that was rejected":          {Result{Outcome: status.Rejected, Problem: status.ProblemRejected}, &ActionNeededError{status.ProblemRejected}},
		"our client was rejected":            {Result{Outcome: status.ClientRejected, Problem: status.ProblemClientRejected}, &PlatformActionError{status.ProblemClientRejected}},
		"a grant that does not open":         {Result{Outcome: status.ClientRejected, Problem: status.ProblemSealed}, &PlatformActionError{status.ProblemSealed}},
		"a provider that asks us to wait":    {Result{Outcome: status.RateLimited, RetryAfter: time.Minute}, &ProviderUnavailableError{Outcome: status.RateLimited, RetryAfter: time.Minute}},
		"a rejection during an incident":     {Result{Outcome: status.Rejected, Incident: true}, &ProviderUnavailableError{Outcome: status.Rejected, Incident: true}},
		"an answer that was lost on its way": {Result{Outcome: status.Lost}, &ProviderUnavailableError{Outcome: status.Lost}},
	} {
		err := c.result.Err()
		if !reflect.DeepEqual(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if back, ok := ResultOf(err); ok != (c.want != nil) || ok && !reflect.DeepEqual(back, c.result) {
			t.Errorf("%s: the error stands for %+v, %t", name, back, ok)
		}
	}
	if _, ok := ResultOf(errors.New("the database is away")); ok {
		t.Error("an error that says nothing of a connection stands for a result")
	}
}
