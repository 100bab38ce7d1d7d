package status

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOf(t *testing.T) {
	then, ends := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)
	present := Provider{SetUp: true, Environment: "production"}
	other := Provider{SetUp: true, Environment: "sandbox"}
	suspected := Provider{SetUp: true, Environment: "production", Incident: ReasonClientRejected}
	failing := Provider{SetUp: true, Environment: "production", Incident: ReasonTemporary}
	typed := Provider{SetUp: true, Environment: "production", Credentials: true}
	for _, test := range []struct {
		name string
		row  Row
		p    Provider
		want Status
	}{
		{"fine", Row{}, present, Status{Health: Fine}},
		{"fine in an incident", Row{}, suspected, Status{Health: Fine}},
		{"fine, to reconnect", Row{AccessEnds: ends}, present, Status{Health: Fine, ReconnectBy: ends}},
		{"credentials need no reconnect", Row{AccessEnds: ends}, typed, Status{Health: Fine}},
		{"retrying", Row{FailingSince: then}, present, Status{Health: Retrying, Party: PartyProvider, Since: then}},
		{"retrying in an incident", Row{FailingSince: then}, failing, Status{Health: Retrying, Party: PartyProvider, Since: then}},
		{"retrying while our client is suspected", Row{FailingSince: then}, suspected, Status{Health: Retrying, Problem: ProblemClientRejected, Party: PartyPlatform, Since: then}},
		{"retrying, to reconnect", Row{FailingSince: then, AccessEnds: ends}, present, Status{Health: Retrying, Party: PartyProvider, Since: then, ReconnectBy: ends}},
		{"rejected", Row{Problem: ProblemRejected, ProblemSince: then, FailingSince: then, AccessEnds: ends}, present, Status{Health: ActionNeeded, Problem: ProblemRejected, Party: PartyMerchant, Since: then}},
		{"client rejected", Row{Problem: ProblemClientRejected, ProblemSince: then}, present, Status{Health: ActionNeeded, Problem: ProblemClientRejected, Party: PartyPlatform, Since: then}},
		{"unreadable", Row{Problem: ProblemUnreadable, ProblemSince: then, FailingSince: then}, present, Status{Health: ActionNeeded, Problem: ProblemUnreadable, Party: PartyPlatform, Since: then}},
		{"unanswered", Row{Problem: ProblemUnanswered, ProblemSince: then, FailingSince: then}, failing, Status{Health: ActionNeeded, Problem: ProblemUnanswered, Party: PartyPlatform, Since: then}},
		{"sealed", Row{Problem: ProblemSealed, ProblemSince: then}, present, Status{Health: ActionNeeded, Problem: ProblemSealed, Party: PartyPlatform, Since: then}},
		{"another environment", Row{AccessEnds: ends}, other, Status{Health: ActionNeeded, Problem: ProblemEnvironment, Party: PartyPlatform}},
		{"rejected in another environment", Row{Problem: ProblemRejected, ProblemSince: then}, other, Status{Health: ActionNeeded, Problem: ProblemEnvironment, Party: PartyPlatform}},
		{"rejected, provider not set up", Row{Problem: ProblemRejected, ProblemSince: then}, Provider{}, Status{Health: ActionNeeded, Problem: ProblemNotSetUp, Party: PartyPlatform}},
		{"disconnected", Row{DisconnectedAt: then, Problem: ProblemRejected, AccessEnds: ends}, present, Status{Health: Disconnected, Since: then}},
		{"disconnected, provider not set up", Row{DisconnectedAt: then}, Provider{}, Status{Health: Disconnected, Since: then}},
	} {
		test.row.Environment = "production"
		if got := Of(test.row, test.p); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.name, got, test.want)
		}
	}
}

func TestARowOfAStateHasThatState(t *testing.T) {
	present := Provider{SetUp: true, Environment: "sandbox"}
	for _, state := range States() {
		s := Of(RowOf("sandbox", state), present)
		if got := string(s.Health); got != state && (s.Health != ActionNeeded || string(s.Problem) != state) {
			t.Errorf("%s: %+v", state, s)
		}
	}
}

func TestAReminderComesTwoDaysBefore(t *testing.T) {
	ends := time.Date(2026, 3, 9, 0, 0, 0, 0, time.UTC)
	s := Status{ReconnectBy: ends}
	if by := s.ReconnectReminder(ends.Add(-Reminder - time.Second)); !by.IsZero() {
		t.Errorf("too early: %s", by)
	}
	if by := s.ReconnectReminder(ends.Add(-Reminder)); !by.Equal(ends) {
		t.Errorf("two days before: %s", by)
	}
}

func TestKindsAreListedOnceAndReadBack(t *testing.T) {
	kinds := Kinds()
	for i, k := range kinds {
		if slices.Contains(kinds[:i], k) || !strings.Contains(string(k), ".") {
			t.Errorf("kind %q is listed twice or has no noun", k)
		}
		if _, ok := k.Call(); ok {
			t.Errorf("%s is taken for a call", k)
		}
		if o, ok := k.Failure(); ok && (KindOfFailure(o) != k || !k.Refresh()) {
			t.Errorf("%s is not the kind of %s", k, o)
		}
	}
	for _, s := range []Stage{StageDenied, StageExpired, StageFailed} {
		if !slices.Contains(kinds, s.Kind()) {
			t.Errorf("%s is not listed", s.Kind())
		}
	}
	for _, r := range Revocations() {
		if !slices.Contains(kinds, r.Kind()) || !r.Kind().Revocation() {
			t.Errorf("%s is not listed", r.Kind())
		}
	}
	for _, o := range RefreshOutcomes()[1:] {
		if !slices.Contains(kinds, KindOfFailure(o)) {
			t.Errorf("%s is not listed", KindOfFailure(o))
		}
	}
	if name, ok := KindOfCall("exchange").Call(); !ok || name != "exchange" {
		t.Errorf("call %q", name)
	}
}
