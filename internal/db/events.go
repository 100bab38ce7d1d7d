package db

import (
	"context"
	"fmt"
	"time"

	"patchbay/internal/status"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// Event is one line of the story: who did what, to what, when, from where. It never holds a secret.
type Event struct {
	ID           pg.ID
	At           time.Time
	Kind         status.Kind
	Actor        string // system, provider, key, merchant, support or admin
	ActorID      pg.ID  // the user or API key; zero for the others
	MerchantID   pg.ID
	ConnectionID pg.ID
	FlowID       pg.ID
	Provider     string
	Class        status.Outcome // of a call or a refresh; "" for the others
	Status       int            // HTTP status of the provider's answer; 0 when none came
	Code         string         // the provider's error code, or the outcome's
	Millis       int            // how long the call took
	Reference    string         // the x-reference-id sent, or the flow's reference
	Address      string         // the person's network address
	Note         string
}

// By is who acts, for the events of what they do.
type By struct {
	Actor   string
	ID      pg.ID
	Address string
}

// System is Patchbay itself.
func System() By { return By{Actor: "system"} }

const eventColumns = `id, at, kind, actor, actor_id, merchant_id, connection_id, flow_id, provider, class, status, code, millis, reference, address, note`

func (e *Event) fill(now time.Time) {
	if e.ID == (pg.ID{}) {
		e.ID = pg.NewID()
	}
	if e.At.IsZero() {
		e.At = now
	}
	if e.Actor == "" {
		e.Actor = "system"
	}
}

func (e *Event) by(who By) *Event {
	e.Actor, e.ActorID, e.Address = who.Actor, who.ID, who.Address
	return e
}

const insertEvent = `INSERT INTO events (` + eventColumns + `)
	VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`

func (d *DB) eventValues(e *Event) []any {
	e.fill(d.Now())
	return []any{
		e.ID, e.At, e.Kind, e.Actor, e.ActorID, e.MerchantID, e.ConnectionID, e.FlowID,
		e.Provider, e.Class, e.Status, e.Code, e.Millis, e.Reference, e.Address, e.Note,
	}
}

// queueEvent adds one event to a batch.
func (d *DB) queueEvent(b *pgx.Batch, e *Event) { b.Queue(insertEvent, d.eventValues(e)...) }

// addEvent writes one event in the caller's transaction.
func (d *DB) addEvent(ctx context.Context, q pg.Querier, e Event) error {
	_, err := q.Exec(ctx, insertEvent, d.eventValues(&e)...)
	if err != nil {
		return fmt.Errorf("add event %s: %w", e.Kind, err)
	}
	return nil
}

// AddEvent writes an event that stands alone, such as a look-up or an export.
func (d *DB) AddEvent(ctx context.Context, e Event) error { return d.addEvent(ctx, d.Pool, e) }

func scanEvent(row pgx.CollectableRow) (Event, error) {
	var e Event
	err := row.Scan(&e.ID, &e.At, &e.Kind, &e.Actor, &e.ActorID, &e.MerchantID, &e.ConnectionID, &e.FlowID, &e.Provider, &e.Class, &e.Status, &e.Code,
		&e.Millis, &e.Reference, &e.Address, &e.Note)
	return e, err
}

// Timeline returns a connection's latest events, newest first, before the given one, of which time and id are known (zero: from the
// newest).
func (d *DB) Timeline(ctx context.Context, connection pg.ID, before Event, limit int) ([]Event, error) {
	if before.At.IsZero() {
		before.At = d.Now().Add(time.Hour)
	}
	rows, err := d.Pool.Query(ctx, `SELECT `+eventColumns+` FROM events
		WHERE connection_id = $1 AND (at, id) < ($2, $3) ORDER BY at DESC, id DESC LIMIT $4`, connection, before.At, before.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("read timeline: %w", err)
	}
	events, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("read timeline: %w", err)
	}
	return events, nil
}

// MakeEventMonths sees to it that events of this month and the next three have a place to go.
func (d *DB) MakeEventMonths(ctx context.Context) error {
	_, err := d.Pool.Exec(ctx, `SELECT events_make_month(($1::timestamptz AT TIME ZONE 'UTC' + make_interval(months => m))::date) FROM generate_series(0, 3) AS m`, d.Now())
	if err != nil {
		return fmt.Errorf("make months of events: %w", err)
	}
	return nil
}

// FlowEvents returns what happened in a flow, newest first.
func (d *DB) FlowEvents(ctx context.Context, f Flow) ([]Event, error) {
	rows, err := d.Pool.Query(ctx, `SELECT `+eventColumns+` FROM events
		WHERE merchant_id = $1 AND flow_id = $2 AND at BETWEEN $3 AND $4 AND kind NOT LIKE 'refresh.%' ORDER BY at DESC, id DESC LIMIT 200`,
		f.MerchantID, f.ID, f.CreatedAt, f.TouchedAt.Add(time.Hour))
	if err != nil {
		return nil, fmt.Errorf("read events of flow: %w", err)
	}
	events, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("read events of flow: %w", err)
	}
	return events, nil
}
