package views

import (
	"context"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// entry is one line of a timeline: an event, or events of equal outcome that follow each other.
type entry struct {
	Events []Event // newest first, at least one
}

// foldEvents makes the lines of a timeline from its events, newest first. Those that follow each other and have the same sameness are
// one line. An event whose sameness is "" is a line of its own and ends the fold before it.
func foldEvents(events []Event, sameness func(Event) string) []entry {
	var lines []entry
	before := ""
	for _, e := range events {
		same := sameness(e)
		if same != "" && same == before {
			last := &lines[len(lines)-1]
			last.Events = append(last.Events, e)
		} else {
			lines = append(lines, entry{Events: []Event{e}})
		}
		before = same
	}
	return lines
}

// reading returns what a merchant reads of a refresh, "" for any other event: a change of state, and what a person did, is never folded.
func (e Event) reading(ctx context.Context, provider string) string {
	if e.kind() == recovered || !e.Kind.Refresh() {
		return ""
	}
	lines := []string{string(e.Kind), e.text(ctx, provider), e.ActorName}
	if !e.technical(ctx) {
		lines = append(lines, e.noteText(ctx))
	}
	return strings.Join(lines, "\n")
}

// sameness returns what the events of one line of staff's timeline have in common, "" for an event that is never folded: only refreshes
// and calls are.
func (e Event) sameness() string {
	_, call := e.Kind.Call()
	switch {
	case e.kind() == recovered, !call && !e.Kind.Refresh():
		return ""
	case e.Outcome == status.OK && call:
		return "calls\n" + e.Note
	case e.Outcome == status.OK:
		return string(e.Kind) + "\n" + e.Note
	}
	return strings.Join([]string{string(e.Kind), string(e.Outcome), strconv.Itoa(e.Status), e.Code, e.Note}, "\n")
}

func (l entry) latest() Event { return l.Events[0] }
func (l entry) first() Event  { return l.Events[len(l.Events)-1] }

// text says what happened, and how often.
func (l entry) text(ctx context.Context, provider string) string {
	e, n := l.latest(), len(l.Events)
	_, call := e.Kind.Call()
	what := e.text(ctx, provider)
	if call && e.Outcome != status.OK {
		what += " · " + wordFor(ctx, "class.", e.Outcome)
	}
	switch {
	case n == 1:
		return what
	case e.Kind == status.RefreshSaved:
		return T(ctx, "timeline.renewals", "Count", n)
	case call && e.Outcome == status.OK:
		return T(ctx, "timeline.calls", "Count", n, "Provider", provider)
	}
	return T(ctx, "timeline.times", "Count", n, "What", what)
}

// class returns the classes of the line: its colour, and "change" if it is to be noticed.
func (l entry) class() string {
	e := l.latest()
	is := e.tone()
	changed := e.kind() == recovered || e.Kind.OfConnection() != string(e.Kind)
	switch e.Kind {
	case status.ConnectionNamed, status.ConnectionNoted, status.ConnectionNoteDeleted:
		changed = false
	}
	if changed || is == toneWarning || is == toneBad {
		return string(is) + " change"
	}
	return string(is)
}

// technical reports whether there is more to unfold: a call, or the address from which a person acted.
func (l entry) technical() bool {
	e := l.latest()
	return len(l.Events) > 1 || e.Call() != nil || e.Actor.Address != "" || e.Actor.Request != ""
}

// calls reports whether the events record calls.
func (l entry) calls() bool { return l.latest().Call() != nil }

// answered says how a call was answered: the HTTP status, or why there is none.
func answered(ctx context.Context, c connectors.Call) string {
	switch {
	case !c.Sent:
		return T(ctx, "connection.not-sent")
	case c.Status != 0:
		return "HTTP " + statusText(c.Status)
	}
	return T(ctx, "connection.no-answer")
}

// span writes from when to when something lasted, with the times of day where that is one day. The second is "" where both read the same.
func span(ctx context.Context, from, to time.Time) (string, string) {
	l := localeOf(ctx)
	first, last := l.at(from), l.at(to)
	day := func(t time.Time) string {
		if t.Year() == l.at(l.now).Year() {
			return l.dayMonth(t)
		}
		return l.dayMonth(t) + " " + strconv.Itoa(t.Year())
	}
	if dayNumber(first) != dayNumber(last) {
		return day(first), day(last)
	}
	if l.clock(first) == l.clock(last) {
		return day(first) + ", " + l.clock(first), ""
	}
	return day(first) + ", " + l.clock(first), l.clock(last)
}
