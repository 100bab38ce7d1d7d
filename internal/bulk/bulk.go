// Package bulk is work of staff on all connections that a list shows: refreshing them, or asking their merchants to reconnect. It is gathered
// and counted first, then started, and done by a job. An ask for one connection is here too, since it counts for those in bulk.
package bulk

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// Bulk is work on all connections that a list showed.
type Bulk struct {
	ID        pg.ID
	Kind      Kind
	Filter    Filter
	State     State
	CreatedBy pg.ID
	ByName    string
	ByRole    audit.Role
	CreatedAt time.Time
	EndedAt   time.Time
	Total     int64
	Done      int64
	Outcomes  map[status.Outcome]int64
	Providers []ProviderCount
	Merchants int64 // of a dry run of asks: of the connections that wait
}

// Waiting returns how many connections have no outcome yet.
func (b Bulk) Waiting() int64 { return b.Total - b.Done }

// Kind is what a bulk does.
type Kind string

// The kinds of bulks.
const (
	Refresh Kind = "refresh"
	Ask     Kind = "ask" // asks merchants to reconnect
)

// ProviderCount is a provider's part of a bulk.
type ProviderCount struct {
	Provider       string
	Total, Waiting int64
}

// State is how far a bulk has come.
type State string

// The states of a bulk.
const (
	Gathering State = "gathering" // its connections are being collected
	DryRun    State = "dry-run"   // collected and counted; nothing is sent
	Running   State = "running"
	Stopping  State = "stopping" // calls under way are finished
	Stopped   State = "stopped"
	Done      State = "done"

	// Of asks, in place of Gathering and Running: the version before knows no asks, and does not work on these.
	Collecting State = "collecting"
	Asking     State = "asking"
)

// Gathering reports whether the connections of a bulk in this state are being collected.
func (s State) Gathering() bool { return s == Gathering || s == Collecting }

// Running reports whether a bulk in this state refreshes or asks.
func (s State) Running() bool { return s == Running || s == Asking }

// Moving reports whether a job works on a bulk in this state.
func (s State) Moving() bool {
	return s.Gathering() || s.Running() || s == Stopping
}

// Queue takes the job that works on a bulk to its end, in the transaction that starts it. jobs.Jobs is River's.
type Queue interface {
	EnqueueBulk(ctx context.Context, tx pgx.Tx, bulk pg.ID, kind Kind) error
}

// ErrState is returned if a bulk is in another state than the operation needs.
var ErrState = errors.New("the bulk is in another state")

// Filter is what a bulk is made from: one of the two lists.
type Filter struct {
	Connections *search.Filter `json:"connections,omitempty"`
	Events      *audit.Filter  `json:"events,omitempty"` // the connections that the events are about
}

// Add adds a bulk as a dry run, whose connections Gather collects. note goes into the event.
func Add(ctx context.Context, d *db.DB, by audit.Actor, kind Kind, f Filter, note string) (pg.ID, error) {
	id, state := pg.NewID(), Gathering
	if kind == Ask {
		state = Collecting
	}
	err := d.Tx(ctx, func(tx pgx.Tx) error {
		_, err := pg.Exec(ctx, tx, "add bulk", `INSERT INTO bulks (id, kind, filter, state, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6)`,
			id, kind, f, state, by.ID, d.Now())
		if err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.BulkCounted, Actor: by, Reference: id.String(), Note: note})
	})
	return id, err
}

// Gather collects connections that the bulk's list shows and that are not disconnected, about most of them, from where the last
// call ended. Of a bulk of asks it leaves out what does not need its merchant, and stores at once why others will not be asked. It returns
// true once all are collected and the dry run is complete. present holds the providers' present settings.
func Gather(ctx context.Context, d *db.DB, id pg.ID, present status.Providers, limit int) (bool, error) {
	for noted := 0; ; {
		var state State
		var cursor string
		var filter Filter
		err := d.Pool.QueryRow(ctx, `SELECT state, filter, cursor FROM bulks WHERE id = $1`, id).Scan(&state, &filter, &cursor)
		if err != nil {
			return false, fmt.Errorf("read bulk: %w", pg.NotFound(err))
		}
		if !state.Gathering() {
			return true, nil
		}
		connections, next, err := listConnections(ctx, d, filter, present, cursor, min(1000, limit))
		if err != nil {
			return false, err
		}
		before, asks := state, state == Collecting
		if next == "" {
			state = DryRun
		}
		err = d.Tx(ctx, func(tx pgx.Tx) error {
			if asks {
				if err := gatherAsks(ctx, d, tx, id, connections, present); err != nil {
					return err
				}
			} else if _, err := tx.Exec(ctx, `INSERT INTO bulk_items (bulk_id, connection_id, provider)
				SELECT $1, id, provider FROM connections WHERE id = ANY($2) AND disconnected_at IS NULL ON CONFLICT DO NOTHING`, id, connections); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, `UPDATE bulks SET cursor = $2, state = $3 WHERE id = $1 AND state = $4`, id, next, state, before)
			return err
		})
		if err != nil {
			return false, fmt.Errorf("gather bulk: %w", err)
		}
		if noted += len(connections); state == DryRun || noted >= limit {
			return state == DryRun, nil
		}
	}
}

func gatherAsks(ctx context.Context, d *db.DB, tx pgx.Tx, bulk pg.ID, connections []pg.ID, present status.Providers) error {
	all, err := db.ReadConnections(ctx, tx, connections...)
	if err != nil {
		return err
	}
	now := d.Now()
	needed := []pg.ID{}
	for _, c := range all {
		if needsMerchant(c, present, now) {
			needed = append(needed, c.ID)
		}
	}
	_, err = pg.Exec(ctx, tx, "gather asks", `
		INSERT INTO bulk_items (bulk_id, connection_id, provider, outcome, ended_at)
		SELECT $1, id, provider, outcome, CASE WHEN outcome <> '' THEN $6::timestamptz END
		FROM (SELECT c.id, c.provider, CASE WHEN `+askedSince("c.id", "$3", "$4")+` THEN $5::text
			WHEN NOT EXISTS (SELECT FROM users u WHERE u.merchant_id = c.merchant_id AND `+notify.Mailable+`) THEN $7::text ELSE '' END AS outcome
			FROM connections c WHERE c.id = ANY($2)) AS found
		ON CONFLICT DO NOTHING`, bulk, needed, status.ConnectionReconnectAsked, now.Add(-askInterval), status.AskedBefore, now, status.NoPerson)
	return err
}

// listConnections returns one page of the connections in a list, and the cursor of the next.
func listConnections(ctx context.Context, d *db.DB, f Filter, providers status.Providers, cursor string, limit int) (connections []pg.ID, next string, err error) {
	if f.Events != nil {
		page, err := d.Audit.List(ctx, *f.Events, cursor, limit)
		for _, line := range page.Rows {
			connections = append(connections, line.ConnectionID)
		}
		return connections, page.Next, err
	}
	f.Connections.Providers = providers
	page, err := search.IDs(ctx, d.Pool, d.Now(), *f.Connections, cursor, limit)
	return page.Rows, page.Next, err
}

// Read returns a bulk with its counts. It returns ErrNotFound if there is none with this id.
func Read(ctx context.Context, d *db.DB, id pg.ID) (Bulk, error) {
	b, err := pg.One(ctx, d.Pool, "read bulk", func(row pgx.CollectableRow) (Bulk, error) {
		b := Bulk{ID: id, Outcomes: map[status.Outcome]int64{}}
		return b, row.Scan(&b.Kind, &b.Filter, &b.State, &b.CreatedBy, &b.ByName, &b.ByRole, &b.CreatedAt, &b.EndedAt)
	}, `
		SELECT b.kind, b.filter, b.state, b.created_by, coalesce(nullif(u.name, ''), u.email), u.role, b.created_at, b.ended_at
		FROM bulks b JOIN users u ON u.id = b.created_by WHERE b.id = $1`, id)
	if err != nil {
		return b, err
	}
	var provider string
	var outcome status.Outcome
	var n int64
	err = pg.Each(ctx, d.Pool, "count bulk", []any{&provider, &outcome, &n}, func() error {
		if len(b.Providers) == 0 || b.Providers[len(b.Providers)-1].Provider != provider {
			b.Providers = append(b.Providers, ProviderCount{Provider: provider})
		}
		p := &b.Providers[len(b.Providers)-1]
		p.Total += n
		b.Total += n
		if outcome == "" {
			p.Waiting += n
			return nil
		}
		b.Done += n
		b.Outcomes[outcome] += n
		return nil
	}, `SELECT provider, outcome, count(*) FROM bulk_items WHERE bulk_id = $1 GROUP BY 1, 2 ORDER BY 1, 2`, id)
	if err != nil {
		return b, err
	}
	if b.Kind == Ask && b.State == DryRun {
		b.Merchants, err = pg.One(ctx, d.Pool, "count merchants", pgx.RowTo[int64], `SELECT count(DISTINCT c.merchant_id) FROM bulk_items i JOIN connections c ON c.id = i.connection_id
			WHERE i.bulk_id = $1 AND i.outcome = ''`, id)
	}
	return b, err
}

// Start turns a dry run into refreshes or asks. It returns ErrState if the bulk is not a dry run.
func Start(ctx context.Context, d *db.DB, by audit.Actor, b Bulk, queue Queue) error {
	to := Running
	if b.Kind == Ask {
		to = Asking
	}
	return changeState(ctx, d, by, b, []State{DryRun}, to, status.BulkBegun, queue)
}

// Stop stops a running bulk: calls under way are finished and no other is begun. It returns ErrState if the bulk is not
// running.
func Stop(ctx context.Context, d *db.DB, by audit.Actor, b Bulk) error {
	return changeState(ctx, d, by, b, []State{Running, Asking}, Stopping, status.BulkStopped, nil)
}

func changeState(ctx context.Context, d *db.DB, by audit.Actor, b Bulk, from []State, to State, kind status.Kind, queue Queue) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		moved, err := pg.Exec(ctx, tx, "move bulk", `UPDATE bulks SET state = $3 WHERE id = $1 AND state = ANY($2)`, b.ID, from, to)
		if err != nil {
			return err
		}
		if moved == 0 {
			return ErrState
		}
		if queue != nil {
			if err := queue.EnqueueBulk(ctx, tx, b.ID, b.Kind); err != nil {
				return err
			}
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: kind, Actor: by, Reference: b.ID.String()})
	})
}

// End closes a bulk that has no connection left to work on: as stopped if Stop was called, else as done. It does nothing
// for a bulk in another state.
func End(ctx context.Context, d *db.DB, id pg.ID) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		state, err := pg.One(ctx, tx, "end bulk", pgx.RowTo[State], `UPDATE bulks SET state = CASE state WHEN $3 THEN $4 ELSE $5 END, ended_at = $2
			WHERE id = $1 AND state IN ($3, $6, $7) RETURNING state`, id, d.Now(), Stopping, Stopped, Done, Running, Asking)
		if errors.Is(err, pg.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.BulkEnded, Reference: id.String(), Code: string(state)})
	})
}

// Waiting returns at most so many of a provider's connections that a running bulk has yet to work on.
func Waiting(ctx context.Context, d *db.DB, id pg.ID, provider string, limit int) ([]pg.ID, error) {
	return pg.Collect(ctx, d.Pool, "read a bulk's connections", pgx.RowTo[pg.ID], `SELECT i.connection_id FROM bulk_items i JOIN bulks b ON b.id = i.bulk_id
		WHERE i.bulk_id = $1 AND i.provider = $2 AND i.outcome = '' AND b.state IN ($4, $5) ORDER BY i.connection_id LIMIT $3`, id, provider, limit, Running, Asking)
}

// RecordOutcome stores the outcome of one connection in a bulk.
func RecordOutcome(ctx context.Context, q pg.Querier, id, connection pg.ID, outcome status.Outcome, now time.Time) error {
	_, err := pg.Exec(ctx, q, "note a bulk's outcome", `UPDATE bulk_items SET outcome = $3, ended_at = $4 WHERE bulk_id = $1 AND connection_id = $2 AND outcome = ''`,
		id, connection, outcome, now)
	return err
}

// Lease takes or renews a job's lease of a bulk. It returns false if another job has the lease.
func Lease(ctx context.Context, d *db.DB, id, owner pg.ID, lasts time.Duration) (bool, error) {
	leased, err := pg.Exec(ctx, d.Pool, "lease bulk", `UPDATE bulks SET lease_owner = $2, leased_until = $4
		WHERE id = $1 AND (lease_owner = $2 OR leased_until IS NULL OR leased_until <= $3)`, id, owner, d.Now(), d.Now().Add(lasts))
	return leased > 0, err
}

// Release ends a job's lease of a bulk, so that another job can take it at once.
func Release(ctx context.Context, d *db.DB, id, owner pg.ID) error {
	_, err := pg.Exec(ctx, d.Pool, "release bulk", `UPDATE bulks SET lease_owner = NULL, leased_until = NULL WHERE id = $1 AND lease_owner = $2`, id, owner)
	return err
}

// Abandoned is a bulk in a moving state that no job has leased.
type Abandoned struct {
	ID   pg.ID
	Kind Kind
}

// ListAbandoned lists them.
func ListAbandoned(ctx context.Context, d *db.DB) ([]Abandoned, error) {
	return pg.Collect(ctx, d.Pool, "list bulks", pgx.RowToStructByPos[Abandoned], `SELECT id, kind FROM bulks
		WHERE state = ANY ($2) AND coalesce(leased_until, created_at + interval '1 minute') <= $1 ORDER BY created_at`,
		d.Now(), []State{Gathering, Collecting, Running, Asking, Stopping})
}
