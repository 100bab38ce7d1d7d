package views

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"patchbay/internal/status"
)

func (v OverviewPage) total(h status.Health) (n int64) {
	for _, p := range v.Providers {
		n += p.Connections[h]
	}
	return n
}

// classes returns the outcomes of refreshes from the bottom of a bar to its top, without rare ones that did not occur.
func (v OverviewPage) classes() []status.Outcome {
	return slices.DeleteFunc(status.RefreshOutcomes(), func(o status.Outcome) bool {
		return (o == status.Lost || o == status.ClientRejected) && !slices.ContainsFunc(v.Hours, func(h HourFigures) bool { return h.Calls[o] > 0 })
	})
}

func (h HourFigures) sum() (n int64) {
	for _, calls := range h.Calls {
		n += calls
	}
	return n
}

func (v OverviewPage) anyRefresh() bool { return v.most() > 0 }

func (v OverviewPage) most() (n int64) {
	for _, h := range v.Hours {
		n = max(n, h.sum())
	}
	return n
}

func (v OverviewPage) newestFirst() []HourFigures {
	out := make([]HourFigures, 0, len(v.Hours))
	for i := len(v.Hours) - 1; i >= 0; i-- {
		out = append(out, v.Hours[i])
	}
	return out
}

// compactNumber writes a number in few characters: 20k, 1.5M.
func compactNumber(ctx context.Context, n int64) string {
	switch {
	case n >= 1_000_000:
		return strings.TrimSuffix(strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64), ".0") + "M"
	case n >= 10_000:
		return Number(ctx, n/1000) + "k"
	}
	return Number(ctx, n)
}

func units(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) }

// todoRanks are the tasks in the order in which they are shown: first those that stop merchants now.
var todoRanks = []Todo{
	TodoClientRejected, TodoCallbackRefused, TodoNotSetUp, TodoConnections,
	TodoRestoreNoticed, TodoRestoreTakeover, TodoRestoreUnknown, TodoMailGivenUp, TodoMailWaiting, TodoCallback, TodoWebhookOff, TodoWebhookFailing,
	TodoEnvironment, TodoSkew, TodoHook, TodoOldKey, TodoRestored,
}

// Rank returns where a task is shown among others: the lowest first.
func (t Todo) Rank() int { return slices.Index(todoRanks, t) }

// stops reports whether merchants cannot connect, or lose their access, until the task is done.
func (t Todo) stops() bool {
	return t == TodoClientRejected || t == TodoCallbackRefused || t == TodoNotSetUp || t == TodoConnections
}

type todoPart struct {
	Title string // key of its heading; "" without
	Items []TodoItem
}

// todoParts divides the tasks into those that stop merchants now and all others, under headings where there are both.
func (v OverviewPage) todoParts() []todoPart {
	rest := slices.IndexFunc(v.Todo, func(m TodoItem) bool { return !m.Code.stops() })
	switch {
	case rest < 0:
		return []todoPart{{"todo.stops", v.Todo}}
	case rest == 0:
		return []todoPart{{"", v.Todo}}
	default:
		return []todoPart{{"todo.stops", v.Todo[:rest]}, {"todo.others", v.Todo[rest:]}}
	}
}

// stopped reports whether one of the provider's tasks stops merchants.
func (p ProviderLine) stopped() bool {
	return slices.ContainsFunc(p.Todo, func(m TodoItem) bool { return m.Code.stops() })
}

// Any reports whether there are connections at the provider, disconnected ones included.
func (p ProviderFigures) Any() bool {
	for _, n := range p.Connections {
		if n > 0 {
			return true
		}
	}
	return false
}

// page returns the address of the provider's page in the back office.
func (p Provider) page() string { return "/admin/providers/" + p.Name }

func (m TodoItem) text(ctx context.Context) string {
	if has(ctx, "todo."+string(m.Code)) {
		return T(ctx, "todo."+string(m.Code), "Provider", m.Provider, "Count", int(m.Count), "Of", int(m.Of))
	}
	return m.Provider + ": " + humanised(string(m.Code))
}

func (m TodoItem) link() string {
	if m.URL == "" && m.Provider != "" {
		return "/admin/providers"
	}
	return m.URL
}

// sinceText says what Since is.
func (m TodoItem) sinceText(ctx context.Context) string {
	switch m.Code {
	case TodoRestored:
		return T(ctx, "todo.restored-on")
	case TodoRestoreNoticed, TodoRestoreTakeover:
		return T(ctx, "todo.noticed-on")
	case TodoRestoreUnknown:
		return T(ctx, "todo.served-until")
	default:
		return T(ctx, "todo.oldest")
	}
}
