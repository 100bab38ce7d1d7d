// Package audit keeps the events: who did what, to what, when and from where. An event is appended in the
// transaction of the change that it records. It is never changed, and deleted only with its whole month, if an admin sets a retention.
package audit

import (
	"context"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Event is one thing that happened. It never holds a secret.
type Event struct {
	ID           pg.ID
	At           time.Time
	Kind         status.Kind
	Actor        Actor
	MerchantID   pg.ID
	ConnectionID pg.ID
	FlowID       pg.ID
	Provider     string
	Outcome      status.Outcome // of a call or a refresh; "" for the others
	Status       int            // HTTP status of the provider's answer; 0 when none came
	Code         string         // the provider's error code, or the outcome's
	Millis       int            // how long the call took, in milliseconds
	Reference    string         // the x-reference-id sent, or the flow's reference
	Note         string
}

// Role is in what capacity an actor acts.
type Role string

// The roles of actors. The last three are those of users.
const (
	RoleSystem   Role = "system" // Patchbay itself
	RoleProvider Role = "provider"
	RoleKey      Role = "key"  // a program with an API key
	RoleLink     Role = "link" // a user of the platform, with a connect link
	RoleMerchant Role = "merchant"
	RoleSupport  Role = "support"
	RoleAdmin    Role = "admin"
)

// Staff reports whether users of this role belong to the platform.
func (r Role) Staff() bool { return r == RoleSupport || r == RoleAdmin }

// Actor is the cause of an event. The zero Actor is Patchbay itself.
type Actor struct {
	Role    Role
	ID      pg.ID  // the user, API key or connect link; zero for the others
	Address string // the network address of a user or program
	Request string // the id of the request in which it happened
}

// System is Patchbay itself.
var System = Actor{Role: RoleSystem}

// Log is the table of events.
type Log struct{ db *pg.DB }

// NewLog returns the events of a database.
func NewLog(db *pg.DB) *Log { return &Log{db: db} }

// Columns are the columns of events.
const Columns = `id, at, kind, actor, actor_id, merchant_id, connection_id, flow_id, provider, outcome, status, code, millis, reference, address, request, note`

// ColumnTypes are Columns with their types, for a statement that writes events of what it changes:
// INSERT INTO events (Columns) SELECT Columns FROM pg.Rows(…, ColumnTypes), whose arguments are Values.
const ColumnTypes = `id uuid, at timestamptz, kind text, actor text, actor_id uuid, merchant_id uuid, connection_id uuid, flow_id uuid, provider text, outcome text, status integer, code text,
	millis integer, reference text, address text, request text, note text`

const insert = `INSERT INTO events (` + Columns + `) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)`

// Add writes an event in the caller's transaction. An id, a time and an actor that are missing are filled in.
//
// Triggers do the rest: events_webhook adds the webhook of an event that is sent to platforms, events_of_erased leaves out the words of
// one about a merchant that was erased, and events_append_only and events_no_truncate refuse every change.
func (l *Log) Add(ctx context.Context, q pg.Querier, e Event) error {
	_, err := pg.Exec(ctx, q, "add event "+string(e.Kind), insert, l.Values(e)...)
	return err
}

// Queue adds an event to a batch.
func (l *Log) Queue(b *pgx.Batch, e Event) { b.Queue(insert, l.Values(e)...) }

// Record writes an event in a transaction of its own, such as that of an export.
func (l *Log) Record(ctx context.Context, e Event) error { return l.Add(ctx, l.db.Pool, e) }

// fill fills in what every event has.
func (l *Log) fill(e *Event) {
	if e.ID == (pg.ID{}) {
		e.ID = pg.NewID()
	}
	if e.At.IsZero() {
		e.At = l.db.Now()
	}
	if e.Actor.Role == "" {
		e.Actor.Role = System.Role
	}
}

// Values returns the values of Columns. An id, a time and an actor that are missing are filled in.
func (l *Log) Values(e Event) []any {
	l.fill(&e)
	return []any{
		e.ID, e.At, e.Kind, e.Actor.Role, e.Actor.ID, e.MerchantID, e.ConnectionID, e.FlowID,
		e.Provider, e.Outcome, e.Status, e.Code, e.Millis, e.Reference, e.Actor.Address, e.Actor.Request, e.Note,
	}
}

func scan(row pgx.CollectableRow) (Event, error) {
	var e Event
	err := row.Scan(&e.ID, &e.At, &e.Kind, &e.Actor.Role, &e.Actor.ID, &e.MerchantID, &e.ConnectionID, &e.FlowID,
		&e.Provider, &e.Outcome, &e.Status, &e.Code, &e.Millis, &e.Reference, &e.Actor.Address, &e.Actor.Request, &e.Note)
	return e, err
}

// Timeline returns one page of a connection's events, newest first, at most limit, from a cursor on; "" is the beginning. It leaves out
// that staff looked, which would crowd out what happened.
func (l *Log) Timeline(ctx context.Context, connection pg.ID, cursor string, limit int) (pg.Page[Event], error) {
	from := newest.ParseCursor(cursor)
	args := pg.Args{connection, status.ConnectionViewed}
	after := newest.After(from, args.Add)
	events, err := pg.Collect(ctx, l.db.Pool, "read timeline", scan, `SELECT `+Columns+` FROM events WHERE connection_id = $1 AND kind <> $2`+after+
		newest.OrderBy(from)+` LIMIT `+strconv.Itoa(limit+1), args...)
	return cut(events, from, limit), err
}

// OfFlow returns the events of a merchant's flow, newest first, at most 200. from and to are when the flow began and last changed.
func (l *Log) OfFlow(ctx context.Context, merchant, flow pg.ID, from, to time.Time) ([]Event, error) {
	return pg.Collect(ctx, l.db.Pool, "read events of flow", scan, `SELECT `+Columns+` FROM events
		WHERE merchant_id = $1 AND flow_id = $2 AND at BETWEEN $3 AND $4 AND kind NOT LIKE 'refresh.%' ORDER BY at DESC, id DESC LIMIT 200`,
		merchant, flow, from, to.Add(time.Hour))
}

// Latest returns the latest events of each of some kinds, newest first, at most so many of each. Refreshes are not among them.
func (l *Log) Latest(ctx context.Context, limit int, kinds ...status.Kind) ([]Event, error) {
	// Each kind by itself: together they would be looked for among all that ever happened.
	return pg.Collect(ctx, l.db.Pool, "read latest events", scan, `SELECT e.* FROM unnest($2::text[]) AS k (one) CROSS JOIN LATERAL (
			SELECT `+Columns+` FROM events WHERE kind = k.one AND kind NOT LIKE 'refresh.%' ORDER BY at DESC, id DESC LIMIT $1) AS e
		ORDER BY e.at DESC, e.id DESC`, limit, kinds)
}

// Names returns the names of users, also those of connect links, keys, merchants and accounts, and the references of flows, by id.
func (l *Log) Names(ctx context.Context, ids []pg.ID) (map[pg.ID]string, error) {
	return names(ctx, l.db.Pool, ids)
}

func names(ctx context.Context, q pg.Querier, ids []pg.ID) (map[pg.ID]string, error) {
	names := make(map[pg.ID]string, len(ids))
	var id pg.ID
	var name string
	err := pg.Each(ctx, q, "read names", []any{&id, &name}, func() error { names[id] = name; return nil }, `
		SELECT id, coalesce(nullif(name, ''), email) FROM users WHERE id = ANY($1)
		UNION ALL SELECT id, name FROM api_keys WHERE id = ANY($1)
		UNION ALL SELECT l.id, coalesce(nullif(concat_ws(', ', nullif(l.user_name, ''), nullif(l.user_external_id, '')), ''), m.name)
			FROM connect_links l JOIN merchants m ON m.id = l.merchant_id WHERE l.id = ANY($1)
		UNION ALL SELECT id, name FROM merchants WHERE id = ANY($1)
		UNION ALL SELECT id, coalesce(nullif(nickname, ''), nullif(account_name, ''), account_id) FROM connections WHERE id = ANY($1)
		UNION ALL SELECT id, reference FROM flows WHERE id = ANY($1)`, ids)
	return names, err
}

// ActorsNamed returns the users and API keys whose e-mail address or name contains a text, at most 50.
func (l *Log) ActorsNamed(ctx context.Context, text string) ([]pg.ID, error) {
	return pg.Read(ctx, l.db, func(ctx context.Context, q pg.Querier) ([]pg.ID, error) {
		return pg.Collect(ctx, q, "find actors", pgx.RowTo[pg.ID], `
			(SELECT id FROM users WHERE words LIKE search_fold($1) ORDER BY email LIMIT 40)
			UNION ALL (SELECT id FROM api_keys WHERE search_fold(name) LIKE search_fold($1) OR prefix = $2 ORDER BY name LIMIT 10)`, pg.Contains(text), text)
	})
}
