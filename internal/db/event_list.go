package db

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/status"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// EventFilter says which events a list shows, newest first. What is zero filters nothing.
type EventFilter struct {
	Kind        status.Kind // one kind, EventsRefresh for all refreshes, or "" for what people and programs did
	Class       status.Outcome
	Actors      []pg.ID // users and keys; none: everybody
	Merchants   []pg.ID
	Connections []pg.ID
	Provider    string
	From, To    time.Time // To is excluded
	Nothing     bool      // it asks for what cannot be read: it shows nothing, rather than more than was asked for
}

// EventsRefresh is the kind of all renewals together, which are most of all events.
const EventsRefresh status.Kind = "refresh"

// ParseEventFilter reads a filter of events as it stands in a list's address. A day is meant whole, and is one of the address's
// zone, of UTC without one. Names of people, merchants and accounts are the caller's to turn into ids.
func ParseEventFilter(values url.Values) EventFilter {
	var broken bool
	get := func(name string) string { return cleaned(values.Get(name), &broken) }
	ids := func(name string) (all []pg.ID) {
		for _, value := range values[name] {
			if id := idOf(cleaned(value, &broken), &broken); id != (pg.ID{}) {
				all = append(all, id)
			}
		}
		return all
	}
	f := EventFilter{
		Kind: status.Kind(get("kind")), Class: status.Outcome(get("class")), Provider: get("provider"), Actors: ids("actor"), Merchants: ids("merchant"), Connections: ids("connection"),
	}
	zone := zoneOf(get("zone"), &broken)
	f.From, _ = moment(get("from"), zone, &broken)
	to, day := moment(get("to"), zone, &broken)
	if f.To = to; day {
		f.To = to.AddDate(0, 0, 1)
	}
	f.Nothing = broken
	return f
}

// Values are the filter as it stands in an address, with exact times: they mean the same in every zone.
func (f EventFilter) Values() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{"kind": string(f.Kind), "class": string(f.Class), "provider": f.Provider} {
		if value != "" {
			values.Set(name, value)
		}
	}
	for name, ids := range map[string][]pg.ID{"actor": f.Actors, "merchant": f.Merchants, "connection": f.Connections} {
		for _, id := range ids {
			values.Add(name, id.String())
		}
	}
	for name, at := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !at.IsZero() {
			values.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	return values
}

// moment reads a day, a time as links from the overview have it, or one as browsers' fields do; what says no zone itself is meant
// in this one. Zero when there is none. broken: what stands there is none of them.
func moment(text string, zone *time.Location, broken *bool) (at time.Time, day bool) {
	if text == "" {
		return time.Time{}, false
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339, "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t.In(zone), layout == time.DateOnly
		}
	}
	*broken = true
	return time.Time{}, false
}

// EventLine is an event with the names of those it is about.
type EventLine struct {
	Event
	ActorName, MerchantName, AccountName, FlowReference string
}

// EventLines are one page of events.
type EventLines struct {
	All        []EventLine
	Prev, Next string
}

type eventCursor struct {
	At   time.Time `json:"t"`
	ID   pg.ID     `json:"i"`
	Back bool      `json:"b,omitempty"`
}

// Events returns one page of what the filter shows, from where cursor stands.
func (d *DB) Events(ctx context.Context, f EventFilter, cursor string, limit int) (EventLines, error) {
	var from eventCursor
	if raw, err := base64.RawURLEncoding.DecodeString(cursor); err != nil || json.Unmarshal(raw, &from) != nil {
		from = eventCursor{}
	}
	var page EventLines
	if f.Nothing {
		return page, nil
	}
	var found []Event
	err := d.read(ctx, func(tx pgx.Tx) (err error) {
		if found, err = d.eventsFrom(ctx, tx, f, from, limit+1); err != nil {
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
				page.Prev = eventCursorOf(found[0], true)
			}
			if from.Back || more {
				page.Next = eventCursorOf(found[len(found)-1], false)
			}
		}
		page.All, err = nameEvents(ctx, tx, found)
		return err
	})
	if err != nil {
		return EventLines{}, fmt.Errorf("list events: %w", err)
	}
	return page, nil
}

// EachEvent calls do with every event the filter shows, newest first, in batches and without holding a connection
// meanwhile.
func (d *DB) EachEvent(ctx context.Context, f EventFilter, do func(EventLine) error) error {
	cursor := ""
	for {
		page, err := d.Events(ctx, f, cursor, 1000)
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

func eventCursorOf(e Event, back bool) string {
	raw, err := json.Marshal(eventCursor{e.At, e.ID, back})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// eventsFrom looks at a month, then at half a year, then at all there is, as long as the page is not full: most pages
// touch one partition of many, and planning for all costs more than reading one.
func (d *DB) eventsFrom(ctx context.Context, q pg.Querier, f EventFilter, from eventCursor, limit int) ([]Event, error) {
	low, high := f.From, f.To
	if high.IsZero() {
		high = d.Now().Add(time.Hour)
	}
	for _, window := range []time.Duration{31 * 24 * time.Hour, 183 * 24 * time.Hour, 0} {
		l, h := low, high
		switch {
		case window == 0:
		case from.Back && from.At.Add(window).Before(high):
			h = from.At.Add(window)
		case !from.Back && !from.At.IsZero() && from.At.Add(-window).After(low):
			l = from.At.Add(-window)
		case !from.Back && from.At.IsZero() && high.Add(-window).After(low):
			l = high.Add(-window)
		default:
			window = 0
		}
		found, err := d.eventsWithin(ctx, q, f, from, l, h, limit)
		if err != nil || len(found) == limit || window == 0 {
			return found, err
		}
	}
	return nil, nil
}

func (d *DB) eventsWithin(ctx context.Context, q pg.Querier, f EventFilter, from eventCursor, low, high time.Time, limit int) ([]Event, error) {
	sql, args := f.statement(from, low, high, limit)
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scanEvent)
}

func (f EventFilter) statement(from eventCursor, low, high time.Time, limit int) (sql string, args []any) {
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	where := []string{`at < ` + arg(high)}
	if !low.IsZero() {
		where = append(where, `at >= `+arg(low))
	}
	switch {
	case f.Kind == EventsRefresh:
		where = append(where, `kind LIKE 'refresh.%'`)
	case f.Kind != "":
		where = append(where, `kind = `+arg(f.Kind))
		// So that the smaller indexes serve.
		if !f.Kind.Refresh() {
			where = append(where, `kind NOT LIKE 'refresh.%'`)
		} else if class, failed := f.Kind.Failure(); failed && f.Class == "" {
			f.Class = class
		}
	case f.Class == "" && f.Connections == nil && f.Actors == nil:
		where = append(where, `kind NOT LIKE 'refresh.%'`)
	}
	switch f.Class {
	case "":
	case status.OK:
		where = append(where, `class = 'ok'`)
	default:
		where = append(where, `class = `+arg(f.Class), `class NOT IN ('', 'ok')`)
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
	return `SELECT ` + eventColumns + ` FROM events WHERE ` + strings.Join(where, " AND ") +
		` ORDER BY at ` + direction + `, id ` + direction + ` LIMIT ` + strconv.Itoa(limit), args
}

// Names returns what people, keys, merchants, accounts and flows are called, by id.
func (d *DB) Names(ctx context.Context, ids []pg.ID) (map[pg.ID]string, error) {
	return namesOf(ctx, d.Pool, ids)
}

func namesOf(ctx context.Context, q pg.Querier, ids []pg.ID) (map[pg.ID]string, error) {
	names := make(map[pg.ID]string, len(ids))
	rows, err := q.Query(ctx, `
		SELECT id, coalesce(nullif(name, ''), email) FROM users WHERE id = ANY($1)
		UNION ALL SELECT id, name FROM api_keys WHERE id = ANY($1)
		UNION ALL SELECT id, name FROM merchants WHERE id = ANY($1)
		UNION ALL SELECT id, coalesce(nullif(account_name, ''), account_id) FROM connections WHERE id = ANY($1)
		UNION ALL SELECT id, reference FROM flows WHERE id = ANY($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	var id pg.ID
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error { names[id] = name; return nil }); err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	return names, nil
}

func nameEvents(ctx context.Context, q pg.Querier, events []Event) ([]EventLine, error) {
	var ids []pg.ID
	for _, e := range events {
		ids = append(ids, e.ActorID, e.MerchantID, e.ConnectionID, e.FlowID)
	}
	slices.SortFunc(ids, func(a, b pg.ID) int { return slices.Compare(a[:], b[:]) })
	names, err := namesOf(ctx, q, slices.Compact(ids))
	if err != nil {
		return nil, err
	}
	lines := make([]EventLine, 0, len(events))
	for _, e := range events {
		lines = append(lines, EventLine{e, names[e.ActorID], names[e.MerchantID], names[e.ConnectionID], names[e.FlowID]})
	}
	return lines, nil
}

// EventKinds lists the kinds that have happened, for a filter's choices.
func (d *DB) EventKinds(ctx context.Context) ([]status.Kind, error) {
	// Hops from kind to kind in the index; refreshes are one choice together.
	var kinds []status.Kind
	err := d.read(ctx, func(tx pgx.Tx) error {
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

// MerchantsNamed finds the merchants whose name or own id contains a text. At most 40.
func (d *DB) MerchantsNamed(ctx context.Context, text string) ([]pg.ID, error) {
	rows, err := d.Pool.Query(ctx, `SELECT id FROM merchants WHERE words LIKE search_fold($1) ORDER BY lower(name), id LIMIT 40`, contains(text))
	if err != nil {
		return nil, fmt.Errorf("find merchants: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID])
	if err != nil {
		return nil, fmt.Errorf("find merchants: %w", err)
	}
	return ids, nil
}

// Actors finds the users and API keys that a text names: by e-mail address or name, whole or in part. At most 50.
func (d *DB) Actors(ctx context.Context, text string) ([]pg.ID, error) {
	rows, err := d.Pool.Query(ctx, `
		(SELECT id FROM users WHERE words LIKE search_fold($1) ORDER BY email LIMIT 40)
		UNION ALL (SELECT id FROM api_keys WHERE lower(name) LIKE $1 OR prefix = $2 ORDER BY name LIMIT 10)`, contains(text), text)
	if err != nil {
		return nil, fmt.Errorf("find actors: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID])
	if err != nil {
		return nil, fmt.Errorf("find actors: %w", err)
	}
	return ids, nil
}
