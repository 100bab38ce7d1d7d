package audit

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
	Actors      []pg.ID // users and keys; none: everybody
	Merchants   []pg.ID
	Connections []pg.ID
	Provider    string
	From, To    time.Time // To is excluded
	Nothing     bool      // it asks for what cannot be read: it shows nothing, rather than more than was asked for
}

// Refreshes is the kind of all refreshes together, which are most of all events.
const Refreshes status.Kind = "refresh"

// read runs do in a read-only transaction whose plans keep to indexes: the planner takes each condition for
// independent of the others and of the order, and would now and then read the whole table for one page.
func (l *Log) read(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, l.db.Pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true), set_config('enable_hashjoin', 'off', true),
			set_config('enable_mergejoin', 'off', true), set_config('max_parallel_workers_per_gather', '0', true), set_config('plan_cache_mode', 'force_custom_plan', true)`)
		if err != nil {
			return err
		}
		return do(tx)
	})
}

// Line is an event with the names of those it is about.
type Line struct {
	Event
	ActorName, MerchantName, AccountName, FlowReference string
}

// Page are one page of events.
type Page struct {
	All        []Line
	Prev, Next string
}

type cursor struct {
	At   time.Time `json:"t"`
	ID   pg.ID     `json:"i"`
	Back bool      `json:"b,omitempty"`
}

// List returns one page of what the filter shows, from the cursor at on.
func (l *Log) List(ctx context.Context, f Filter, at string, limit int) (Page, error) {
	var from cursor
	if raw, err := base64.RawURLEncoding.DecodeString(at); err != nil || json.Unmarshal(raw, &from) != nil {
		from = cursor{}
	}
	var page Page
	if f.Nothing {
		return page, nil
	}
	var found []Event
	err := l.read(ctx, func(tx pgx.Tx) (err error) {
		if found, err = l.from(ctx, tx, f, from, limit+1); err != nil {
			return err
		}
		more := len(found) > limit
		if more {
			found = found[:limit]
		}
		if from.Back {
			slices.Reverse(found)
		}
		if len(found) > 0 {
			if (from.Back && more) || (!from.Back && !from.At.IsZero()) {
				page.Prev = cursorOf(found[0], true)
			}
			if from.Back || more {
				page.Next = cursorOf(found[len(found)-1], false)
			}
		}
		page.All, err = nameEvents(ctx, tx, found)
		return err
	})
	if err != nil {
		return Page{}, fmt.Errorf("list events: %w", err)
	}
	return page, nil
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
		for _, line := range page.All {
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

func cursorOf(e Event, back bool) string {
	raw, err := json.Marshal(cursor{e.At, e.ID, back})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// from looks at a month, then at half a year, then at all there is, as long as the page is not full: most pages
// touch one partition of many, and planning for all costs more than reading one.
func (l *Log) from(ctx context.Context, q pg.Querier, f Filter, from cursor, limit int) ([]Event, error) {
	low, high := f.From, f.To
	if high.IsZero() {
		high = l.db.Now().Add(time.Hour)
	}
	for _, window := range []time.Duration{31 * 24 * time.Hour, 183 * 24 * time.Hour, 0} {
		first, last := low, high
		switch {
		case window == 0:
		case from.Back && from.At.Add(window).Before(high):
			last = from.At.Add(window)
		case !from.Back && !from.At.IsZero() && from.At.Add(-window).After(low):
			first = from.At.Add(-window)
		case !from.Back && from.At.IsZero() && high.Add(-window).After(low):
			first = high.Add(-window)
		default:
			window = 0
		}
		found, err := l.within(ctx, q, f, from, first, last, limit)
		if err != nil || len(found) == limit || window == 0 {
			return found, err
		}
	}
	return nil, nil
}

func (l *Log) within(ctx context.Context, q pg.Querier, f Filter, from cursor, low, high time.Time, limit int) ([]Event, error) {
	sql, args := f.statement(from, low, high, limit)
	return pg.Collect(ctx, q, "read events", scan, sql, args...)
}

func (f Filter) statement(from cursor, low, high time.Time, limit int) (sql string, args []any) {
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	where := []string{`at < ` + arg(high)}
	if !low.IsZero() {
		where = append(where, `at >= `+arg(low))
	}
	switch {
	case f.Kind == Refreshes:
		where = append(where, `kind LIKE 'refresh.%'`)
	case f.Kind != "":
		where = append(where, `kind = `+arg(f.Kind))
		// So that the smaller indexes serve.
		if !f.Kind.Refresh() {
			where = append(where, `kind NOT LIKE 'refresh.%'`)
		} else if outcome, failed := f.Kind.Failure(); failed && f.Outcome == "" {
			f.Outcome = outcome
		}
	case f.Outcome == "" && f.Connections == nil && f.Actors == nil:
		where = append(where, `kind NOT LIKE 'refresh.%'`)
	}
	switch f.Outcome {
	case "":
	case status.OK:
		where = append(where, `outcome = 'ok'`)
	default:
		where = append(where, `outcome = `+arg(f.Outcome), `outcome NOT IN ('', 'ok')`)
	}
	if f.Actors != nil {
		where = append(where, `actor_id = ANY(`+arg(f.Actors)+`)`)
	}
	if len(f.Merchants) == 1 { // in the index's order
		where = append(where, `merchant_id = `+arg(f.Merchants[0]))
	} else if f.Merchants != nil {
		where = append(where, `merchant_id = ANY(`+arg(f.Merchants)+`)`)
	}
	if len(f.Connections) == 1 {
		where = append(where, `connection_id = `+arg(f.Connections[0]))
	} else if f.Connections != nil {
		where = append(where, `connection_id = ANY(`+arg(f.Connections)+`)`)
	}
	if f.Provider != "" {
		where = append(where, `provider = `+arg(f.Provider))
	}
	direction := "DESC"
	if from.Back {
		direction = "ASC"
	}
	if !from.At.IsZero() {
		compare := "<"
		if from.Back {
			compare = ">"
		}
		at := arg(from.At)
		where = append(where, `at `+compare+`= `+at, `(at, id) `+compare+` (`+at+`, `+arg(from.ID)+`)`) // the first prunes partitions
	}
	return `SELECT ` + Columns + ` FROM events WHERE ` + strings.Join(where, " AND ") +
		` ORDER BY at ` + direction + `, id ` + direction + ` LIMIT ` + strconv.Itoa(limit), args
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

// Kinds lists the kinds that have happened, for a filter's choices.
func (l *Log) Kinds(ctx context.Context) ([]status.Kind, error) {
	// Hops from kind to kind in the index; refreshes are one choice together.
	var kinds []status.Kind
	err := l.read(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `
			WITH RECURSIVE hop AS (
				(SELECT kind FROM events WHERE kind NOT LIKE 'refresh.%' ORDER BY kind LIMIT 1)
				UNION ALL
				SELECT (SELECT e.kind FROM events e WHERE e.kind > hop.kind AND e.kind NOT LIKE 'refresh.%' ORDER BY e.kind LIMIT 1) FROM hop WHERE hop.kind IS NOT NULL
			) SELECT kind FROM hop WHERE kind IS NOT NULL`)
		if err != nil {
			return err
		}
		kinds, err = pgx.CollectRows(rows, pgx.RowTo[status.Kind])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list kinds of events: %w", err)
	}
	return kinds, nil
}
