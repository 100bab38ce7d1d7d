package audit

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Filter says which events a list shows, newest first. What is zero filters nothing.
type Filter struct {
	Kind        status.Kind // one kind, Refreshes for all refreshes, or "" for what people and programs did
	Outcome     status.Outcome
	Actors      []pg.ID // users and keys; nil for all
	Merchants   []pg.ID
	Connections []pg.ID
	Provider    string
	From, To    time.Time // To is excluded
	NoViews     bool      // without staff's look-ups, unless Kind asks for them
	Nothing     bool      // the filter cannot be read: it shows nothing, so that it does not show more than was asked for
}

// Refreshes is the kind of all refreshes together, which are most of all events.
const Refreshes status.Kind = "refresh"

// Line is an event with the names of those it is about.
type Line struct {
	Event
	ActorName, MerchantName, AccountName, FlowReference string
}

// newest is the order of every list of events.
var newest = pg.Order{Name: "newest", Key: "at", Type: "timestamptz", ID: "id", Descending: true}

func cut(events []Event, from pg.Cursor, limit int) pg.Page[Event] {
	return pg.CutPage(newest, events, from, limit, func(e Event) (string, pg.ID) { return pg.TimeKey(e.At), e.ID })
}

// List returns one page of the events that the filter shows, newest first, at most limit, from a cursor on; "" is the beginning.
func (l *Log) List(ctx context.Context, f Filter, cursor string, limit int) (pg.Page[Line], error) {
	if f.Nothing {
		return pg.Page[Line]{}, nil
	}
	from := newest.ParseCursor(cursor)
	return pg.Read(ctx, l.db, func(ctx context.Context, q pg.Querier) (pg.Page[Line], error) {
		events, err := l.from(ctx, q, f, from, limit+1)
		if err != nil {
			return pg.Page[Line]{}, err
		}
		page := cut(events, from, limit)
		lines, err := nameEvents(ctx, q, page.Rows)
		return pg.Page[Line]{Rows: lines, Prev: page.Prev, Next: page.Next}, err
	})
}

// Each calls do with every event the filter shows, newest first, in batches and without holding a connection
// meanwhile.
func (l *Log) Each(ctx context.Context, f Filter, do func(Line) error) error {
	cursor := ""
	for {
		page, err := l.List(ctx, f, cursor, 1000)
		if err != nil {
			return err
		}
		for _, line := range page.Rows {
			if err := do(line); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		cursor = page.Next
	}
}

// from reads a month, then half a year, then all, until the page is full: most pages touch one partition of many, and planning for
// all takes longer than reading one.
func (l *Log) from(ctx context.Context, q pg.Querier, f Filter, from pg.Cursor, limit int) ([]Event, error) {
	low, high, at := f.From, f.To, from.Time()
	if high.IsZero() {
		high = l.db.Now().Add(time.Hour)
	}
	// Partitions are chosen by these bounds, and not by the comparison with the cursor.
	if from.Back && at.After(low) {
		low = at
	} else if !from.Back && !at.IsZero() && at.Before(high) {
		high = at.Add(time.Microsecond)
	}
	for _, window := range []time.Duration{31 * 24 * time.Hour, 183 * 24 * time.Hour, 0} {
		first, last := low, high
		switch {
		case window == 0:
		case from.Back && low.Add(window).Before(high):
			last = low.Add(window)
		case !from.Back && high.Add(-window).After(low):
			first = high.Add(-window)
		default:
			window = 0
		}
		sql, args := f.statement(from, first, last, limit)
		found, err := pg.Collect(ctx, q, "list events", scan, sql, append([]any{pg.PlanWithArguments}, args...)...)
		if err != nil || len(found) == limit || window == 0 {
			return found, err
		}
	}
	return nil, nil
}

func (f Filter) statement(from pg.Cursor, low, high time.Time, limit int) (sql string, args pg.Args) {
	where := []string{`at < ` + args.Add(high)}
	if !low.IsZero() {
		where = append(where, `at >= `+args.Add(low))
	}
	switch {
	case f.Kind == Refreshes:
		where = append(where, `kind LIKE 'refresh.%'`)
	case f.Kind != "":
		where = append(where, `kind = `+args.Add(f.Kind))
		// So that the smaller indexes serve.
		if !f.Kind.Refresh() {
			where = append(where, `kind NOT LIKE 'refresh.%'`)
		} else if outcome, failed := f.Kind.Failure(); failed && f.Outcome == "" {
			f.Outcome = outcome
		}
	case f.Outcome == "" && f.Connections == nil && f.Actors == nil:
		where = append(where, `kind NOT LIKE 'refresh.%'`)
	}
	if f.NoViews && f.Kind == "" {
		where = append(where, `kind <> ALL (`+args.Add([]status.Kind{status.ConnectionViewed, status.ConnectionsSearched})+`)`)
	}
	switch f.Outcome {
	case "":
	case status.OK:
		where = append(where, `outcome = 'ok'`)
	default:
		where = append(where, `outcome = `+args.Add(f.Outcome), `outcome NOT IN ('', 'ok')`)
	}
	if f.Actors != nil {
		where = append(where, `actor_id = ANY(`+args.Add(f.Actors)+`)`)
	}
	if len(f.Merchants) == 1 { // in the index's order
		where = append(where, `merchant_id = `+args.Add(f.Merchants[0]))
	} else if f.Merchants != nil {
		where = append(where, `merchant_id = ANY(`+args.Add(f.Merchants)+`)`)
	}
	if len(f.Connections) == 1 {
		where = append(where, `connection_id = `+args.Add(f.Connections[0]))
	} else if f.Connections != nil {
		where = append(where, `connection_id = ANY(`+args.Add(f.Connections)+`)`)
	}
	if f.Provider != "" {
		where = append(where, `provider = `+args.Add(f.Provider))
	}
	return `SELECT ` + Columns + ` FROM events WHERE ` + strings.Join(where, " AND ") + newest.After(from, args.Add) +
		newest.OrderBy(from) + ` LIMIT ` + strconv.Itoa(limit), args
}

func nameEvents(ctx context.Context, q pg.Querier, events []Event) ([]Line, error) {
	var ids []pg.ID
	for _, e := range events {
		ids = append(ids, e.Actor.ID, e.MerchantID, e.ConnectionID, e.FlowID)
	}
	slices.SortFunc(ids, func(a, b pg.ID) int { return slices.Compare(a[:], b[:]) })
	names, err := names(ctx, q, slices.Compact(ids))
	if err != nil {
		return nil, err
	}
	lines := make([]Line, 0, len(events))
	for _, e := range events {
		lines = append(lines, Line{e, names[e.Actor.ID], names[e.MerchantID], names[e.ConnectionID], names[e.FlowID]})
	}
	return lines, nil
}

// Kinds lists the kinds that have happened, for a filter's choices. It leaves out those of refreshes.
func (l *Log) Kinds(ctx context.Context) ([]status.Kind, error) {
	// Each step finds the next kind in the index.
	return pg.Read(ctx, l.db, func(ctx context.Context, q pg.Querier) ([]status.Kind, error) {
		return pg.Collect(ctx, q, "list kinds of events", pgx.RowTo[status.Kind], `
			WITH RECURSIVE hop AS (
				(SELECT kind FROM events WHERE kind NOT LIKE 'refresh.%' ORDER BY kind LIMIT 1)
				UNION ALL
				SELECT (SELECT e.kind FROM events e WHERE e.kind > hop.kind AND e.kind NOT LIKE 'refresh.%' ORDER BY e.kind LIMIT 1) FROM hop WHERE hop.kind IS NOT NULL
			) SELECT kind FROM hop WHERE kind IS NOT NULL`)
	})
}
