// Package status says how a connection is and who must act. Every list, page, mail, API answer and refresh asks Of; SQL
// repeats the part of it that indexes need (connection_health, connections.state and connections.health_order), and a
// test in db runs every combination through both.
//
// The package also holds the closed sets of words that several rooms share: the outcome of a call to a provider, the stage
// of a flow, the reason of an incident and the kinds of events. What a constant is equal to is stored in tables, in
// metrics' labels and in the API; it does not change when the constant is renamed.
package status

import (
	"slices"
	"time"
)

// Health is how a connection is, in one word. The API and the list's filter use the same words.
type Health string

// The healths of a connection, in the order in which a page offers them.
const (
	Fine         Health = "fine"
	Retrying     Health = "retrying"      // a refresh failed and is tried again by itself
	ActionNeeded Health = "action-needed" // a person must act: see Party
	Disconnected Health = "disconnected"
)

// Healths lists every Health.
func Healths() []Health { return append(ConnectedHealths(), Disconnected) }

// ConnectedHealths lists every Health but Disconnected, the best first.
func ConnectedHealths() []Health { return []Health{Fine, Retrying, ActionNeeded} }

// Rank returns the position of a health in the order of lists, from 1: the worst first, and Disconnected last.
func (h Health) Rank() int64 {
	healths := ConnectedHealths()
	if i := slices.Index(healths, h); i >= 0 {
		return int64(len(healths) - i)
	}
	return int64(len(healths)) + 1
}

// ranks is by how much one rank's values of connections.health_order lie apart, and zeroRank what a time of 0 adds to them.
const ranks, zeroRank = 1_000_000_000_000, 100_000_000_000

// Order returns the value of the column connections.health_order of connections that have this health since a time: the worst
// health first, within it the latest change first. The SQL function connection_health_order says the same.
func (h Health) Order(since time.Time) int64 { return h.Rank()*ranks + zeroRank - since.Unix() }

// Orders returns the values of connections.health_order that this health may have: from first on, and below end.
func (h Health) Orders() (first, end int64) { return h.Rank() * ranks, (h.Rank() + 1) * ranks }

// Problem is what a person must put right on a connection; "" when there is nothing.
type Problem string

// The problems of a connection. The last two follow from the provider's settings and are never stored.
const (
	ProblemRejected       Problem = "refused"         // the provider rejected the grant
	ProblemInterrupted    Problem = "interrupted"     // the grant was rejected after the answer of an earlier refresh was lost
	ProblemLapsed         Problem = "lapsed"          // the grant has come to its own end
	ProblemRevoked        Problem = "revoked"         // access was ended at the provider
	ProblemClientRejected Problem = "client-rejected" // the provider rejected our own client, not the merchant's grant
	ProblemUnreadable     Problem = "unreadable"      // the provider answers, and its answer is not understood
	ProblemUnanswered     Problem = "unanswered"      // the provider has given this connection no usable answer for days
	ProblemSealed         Problem = "sealed"          // the grant cannot be decrypted: a key is missing
	ProblemEnvironment    Problem = "environment"     // the connection belongs to another environment than the provider's present one
	ProblemNotSetUp       Problem = "not-set-up"      // the provider is not set up here
)

// ProblemDisconnected is why there is no token of a disconnected connection. Of does not give it: nothing needs to be put right.
const ProblemDisconnected Problem = "disconnected"

// StoredProblems lists the problems that a row of connections may hold.
func StoredProblems() []Problem {
	return []Problem{ProblemRejected, ProblemInterrupted, ProblemLapsed, ProblemRevoked, ProblemClientRejected, ProblemUnreadable, ProblemUnanswered, ProblemSealed}
}

// Problems lists every Problem.
func Problems() []Problem { return append(StoredProblems(), ProblemEnvironment, ProblemNotSetUp) }

// Party returns who must put the problem right.
func (p Problem) Party() Party {
	switch p {
	case "":
		return ""
	case ProblemClientRejected, ProblemUnreadable, ProblemUnanswered, ProblemSealed, ProblemEnvironment, ProblemNotSetUp:
		return PartyPlatform
	default:
		return PartyMerchant
	}
}

// StoredProblemsOf lists the stored problems that a party must put right.
func StoredProblemsOf(party Party) []Problem {
	return slices.DeleteFunc(StoredProblems(), func(p Problem) bool { return p.Party() != party })
}

// Party is who must act; "" if no action is needed.
type Party string

// The parties.
const (
	PartyMerchant Party = "merchant"
	PartyProvider Party = "provider"
	PartyPlatform Party = "platform" // the business that runs Patchbay
)

// Parties lists every Party.
func Parties() []Party { return []Party{PartyMerchant, PartyProvider, PartyPlatform} }

// Row is what is stored of a connection's state. Zero times mean "not so" or "unknown".
type Row struct {
	Environment    string
	Problem        Problem
	ProblemSince   time.Time
	FailingSince   time.Time // since when refreshes fail
	DisconnectedAt time.Time
	AccessEnds     time.Time // when access ends however often it is refreshed; zero when refreshing extends it
}

// RowOf returns a row in the given stored state: a value of the column connections.state, which is "fine", "retrying",
// "disconnected" or a Problem. A Health will do where only the health is asked for.
func RowOf(environment, state string) Row {
	r, some := Row{Environment: environment}, time.Unix(1, 0)
	switch Health(state) {
	case Fine:
	case Retrying:
		r.FailingSince = some
	case Disconnected:
		r.DisconnectedAt = some
	default:
		r.Problem, r.ProblemSince = Problem(state), some
	}
	return r
}

// HealthOf returns the health of a connection in the stored state, as the SQL function connection_health gives it: without what
// its provider's settings make of it.
func HealthOf(state string) Health {
	if h := Health(state); slices.Contains(Healths(), h) {
		return h
	}
	return ActionNeeded
}

// States lists the values of the column connections.state: every Health but ActionNeeded, of which it holds the problem.
func States() (states []string) {
	for _, h := range Healths() {
		if h != ActionNeeded {
			states = append(states, string(h))
		}
	}
	for _, p := range StoredProblems() {
		states = append(states, string(p))
	}
	return states
}

// Provider is what a provider's settings and its incident make of its connections. The zero value is a provider that is not
// set up.
type Provider struct {
	SetUp       bool
	Environment string // the present one
	Credentials bool   // the merchant typed credentials, which give new access by themselves
	Incident    Reason // of the open incident; "" when there is none
}

// StatesWhere lists the values of the column connections.state that connections of an environment have whose status is as asked.
func (p Provider) StatesWhere(environment string, is func(Status) bool) []string {
	return slices.DeleteFunc(States(), func(state string) bool { return !is(Of(RowOf(environment, state), p)) })
}

// Providers are all providers by name. One that is missing is not set up.
type Providers map[string]Provider

// Present reports whether a provider is set up, and an environment its present one.
func (ps Providers) Present(name, environment string) bool {
	p := ps[name]
	return p.SetUp && p.Environment == environment
}

// SetIncident notes the open incident of a provider in an environment. An incident of another environment than its present one
// does not count.
func (ps Providers) SetIncident(name, environment string, reason Reason) {
	if p, ok := ps[name]; ok && p.Environment == environment {
		p.Incident = reason
		ps[name] = p
	}
}

// Status is how a connection is.
type Status struct {
	Health      Health
	Problem     Problem
	Party       Party     // who must act
	Since       time.Time // since when it is like this; zero when fine or unknown
	Stopped     bool      // retrying, and nothing is refreshed until a person ends the incident that they declared
	ReconnectBy time.Time // the merchant must reconnect by then, or access ends; zero when it need not
}

// Of says how a connection is.
//
// A disconnected connection is disconnected, whatever else is stored of it. Next come the provider's settings: a connection
// of a provider that is not set up, or of another environment than the provider's present one, waits for the platform, also
// when a problem is stored. Its merchant could not act on the problem, since a reconnect would be made in the present
// environment, and it is neither refreshed nor handed out, so what was true of it when the environment changed may no
// longer be. Setting the provider back shows the stored problem again.
func Of(row Row, p Provider) Status {
	switch {
	case !row.DisconnectedAt.IsZero():
		return Status{Health: Disconnected, Since: row.DisconnectedAt}
	case !p.SetUp:
		return ProblemNotSetUp.Status(time.Time{})
	case row.Environment != p.Environment:
		return ProblemEnvironment.Status(time.Time{})
	case row.Problem != "":
		return row.Problem.Status(row.ProblemSince)
	}
	s := Status{Health: Fine}
	if !row.FailingSince.IsZero() {
		s = Status{Health: Retrying, Party: PartyProvider, Since: row.FailingSince, Stopped: p.Incident == ReasonDeclared}
		if p.Incident == ReasonClientRejected {
			s.Problem, s.Party = ProblemClientRejected, PartyPlatform
		}
	}
	if !p.Credentials {
		s.ReconnectBy = row.AccessEnds
	}
	return s
}

// Status returns the status of a connection with the problem.
func (p Problem) Status(since time.Time) Status {
	return Status{Health: ActionNeeded, Problem: p, Party: p.Party(), Since: since}
}

// Reminder is how long before ReconnectBy a merchant is reminded of it, on pages and by mail.
const Reminder = 48 * time.Hour

// ReconnectReminder returns ReconnectBy if it is at most Reminder away, and else the zero time.
func (s Status) ReconnectReminder(now time.Time) time.Time {
	if s.ReconnectBy.Sub(now) > Reminder {
		return time.Time{}
	}
	return s.ReconnectBy
}
