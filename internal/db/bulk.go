package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// Bulk is a refresh of all connections that a list showed.
type Bulk struct {
	ID        pg.ID
	Filter    BulkFilter
	State     BulkState
	CreatedBy pg.ID
	ByName    string
	ByRole    audit.Role
	CreatedAt time.Time
	EndedAt   time.Time
	Total     int64
	Done      int64
	Outcomes  map[status.Outcome]int64
	Providers []BulkProvider
}

// BulkProvider is a provider's part of a bulk.
type BulkProvider struct {
	Provider       string
	Total, Waiting int64
}

// BulkState is how far a bulk has come.
type BulkState string

// The states of a bulk.
const (
	BulkGathering BulkState = "gathering" // its connections are being collected
	BulkDryRun    BulkState = "dry-run"   // collected and counted; nothing is sent
	BulkRunning   BulkState = "running"
	BulkStopping  BulkState = "stopping" // calls under way are finished
	BulkStopped   BulkState = "stopped"
	BulkDone      BulkState = "done"
)

// Moving reports whether a job works on a bulk in this state.
func (s BulkState) Moving() bool {
	return s == BulkGathering || s == BulkRunning || s == BulkStopping
}

// ErrBulkState is returned if a bulk is in another state than the operation needs.
var ErrBulkState = errors.New("the bulk is in another state")

// BulkFilter is what a bulk is made from: one of the two lists.
type BulkFilter struct {
	Connections *search.Filter `json:"connections,omitempty"`
	Events      *audit.Filter  `json:"events,omitempty"` // the connections that the events are about
}

// AddBulk adds a bulk as a dry run, whose connections GatherBulk collects. note goes into the event.
func (d *DB) AddBulk(ctx context.Context, by audit.Actor, f BulkFilter, note string) (pg.ID, error) {
	id := pg.NewID()
	err := d.Tx(ctx, func(tx pgx.Tx) error {
		_, err := pg.Exec(ctx, tx, "add bulk", `INSERT INTO bulks (id, filter, state, created_by, created_at) VALUES ($1, $2, $3, $4, $5)`,
			id, f, BulkGathering, by.ID, d.Now())
		if err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.BulkCounted, Actor: by, Reference: id.String(), Note: note})
	})
	return id, err
}

// GatherBulk collects connections that the bulk's list shows and that are not disconnected, about most of them, from where the last
// call ended. It returns true once all are collected and the dry run is complete. present holds the providers' present settings.
func (d *DB) GatherBulk(ctx context.Context, id pg.ID, present status.Providers, most int) (bool, error) {
	for noted := 0; ; {
		var state BulkState
		var cursor string
		var filter BulkFilter
		err := d.Pool.QueryRow(ctx, `SELECT state, filter, cursor FROM bulks WHERE id = $1`, id).Scan(&state, &filter, &cursor)
		if err != nil {
			return false, fmt.Errorf("read bulk: %w", pg.NotFound(err))
		}
		if state != BulkGathering {
			return true, nil
		}
		connections, next, err := d.listed(ctx, filter, present, cursor, min(1000, most))
		if err != nil {
			return false, err
		}
		if next == "" {
			state = BulkDryRun
		}
		err = d.Tx(ctx, func(tx pgx.Tx) error {
			_, err := tx.Exec(ctx, `INSERT INTO bulk_items (bulk_id, connection_id, provider)
				SELECT $1, id, provider FROM connections WHERE id = ANY($2) AND disconnected_at IS NULL ON CONFLICT DO NOTHING`, id, connections)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `UPDATE bulks SET cursor = $2, state = $3 WHERE id = $1 AND state = $4`, id, next, state, BulkGathering)
			return err
		})
		if err != nil {
			return false, fmt.Errorf("gather bulk: %w", err)
		}
		if noted += len(connections); state == BulkDryRun || noted >= most {
			return state == BulkDryRun, nil
		}
	}
}

// listed returns one page of the connections in a list, and the cursor of the next.
func (d *DB) listed(ctx context.Context, f BulkFilter, providers status.Providers, cursor string, limit int) (connections []pg.ID, next string, err error) {
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

// Bulk returns a bulk with its counts. It returns ErrNotFound if there is none with this id.
func (d *DB) Bulk(ctx context.Context, id pg.ID) (Bulk, error) {
	b, err := pg.One(ctx, d.Pool, "read bulk", func(row pgx.CollectableRow) (Bulk, error) {
		b := Bulk{ID: id, Outcomes: map[status.Outcome]int64{}}
		return b, row.Scan(&b.Filter, &b.State, &b.CreatedBy, &b.ByName, &b.ByRole, &b.CreatedAt, &b.EndedAt)
	}, `
		SELECT b.filter, b.state, b.created_by, coalesce(nullif(u.name, ''), u.email), u.role, b.created_at, b.ended_at
		FROM bulks b JOIN users u ON u.id = b.created_by WHERE b.id = $1`, id)
	if err != nil {
		return b, err
	}
	rows, err := d.Pool.Query(ctx, `SELECT provider, outcome, count(*) FROM bulk_items WHERE bulk_id = $1 GROUP BY 1, 2 ORDER BY 1, 2`, id)
	if err != nil {
		return b, fmt.Errorf("count bulk: %w", err)
	}
	var provider string
	var outcome status.Outcome
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&provider, &outcome, &n}, func() error {
		if len(b.Providers) == 0 || b.Providers[len(b.Providers)-1].Provider != provider {
			b.Providers = append(b.Providers, BulkProvider{Provider: provider})
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
	})
	if err != nil {
		return b, fmt.Errorf("count bulk: %w", err)
	}
	return b, nil
}

// StartBulk turns a dry run into refreshes. It returns ErrBulkState if the bulk is not a dry run.
func (d *DB) StartBulk(ctx context.Context, by audit.Actor, id pg.ID, jobs Jobs) error {
	return d.moveBulk(ctx, by, id, BulkDryRun, BulkRunning, status.BulkBegun, jobs)
}

// StopBulk stops a running bulk: calls under way are finished and no other is begun. It returns ErrBulkState if the bulk is not
// running.
func (d *DB) StopBulk(ctx context.Context, by audit.Actor, id pg.ID) error {
	return d.moveBulk(ctx, by, id, BulkRunning, BulkStopping, status.BulkStopped, nil)
}

func (d *DB) moveBulk(ctx context.Context, by audit.Actor, id pg.ID, from, to BulkState, kind status.Kind, jobs Jobs) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		moved, err := pg.Exec(ctx, tx, "move bulk", `UPDATE bulks SET state = $3 WHERE id = $1 AND state = $2`, id, from, to)
		if err != nil {
			return err
		}
		if moved == 0 {
			return ErrBulkState
		}
		if jobs != nil {
			if err := jobs.EnqueueBulk(ctx, tx, id); err != nil {
				return err
			}
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: kind, Actor: by, Reference: id.String()})
	})
}

// EndBulk closes a bulk that has no connection left to refresh: as stopped if StopBulk was called, else as done. It does nothing
// for a bulk in another state.
func (d *DB) EndBulk(ctx context.Context, id pg.ID) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		state, err := pg.One(ctx, tx, "end bulk", pgx.RowTo[BulkState], `UPDATE bulks SET state = CASE state WHEN $3 THEN $4 ELSE $5 END, ended_at = $2
			WHERE id = $1 AND state IN ($3, $6) RETURNING state`, id, d.Now(), BulkStopping, BulkStopped, BulkDone, BulkRunning)
		if errors.Is(err, pg.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.BulkEnded, Reference: id.String(), Code: string(state)})
	})
}

// BulkWaiting returns at most so many of a provider's connections that a running bulk has yet to refresh.
func (d *DB) BulkWaiting(ctx context.Context, id pg.ID, provider string, most int) ([]pg.ID, error) {
	return pg.Collect(ctx, d.Pool, "read a bulk's connections", pgx.RowTo[pg.ID], `SELECT i.connection_id FROM bulk_items i JOIN bulks b ON b.id = i.bulk_id
		WHERE i.bulk_id = $1 AND i.provider = $2 AND i.outcome = '' AND b.state = $4 ORDER BY i.connection_id LIMIT $3`, id, provider, most, BulkRunning)
}

// BulkEnded stores the outcome of one connection's refresh in a bulk.
func (d *DB) BulkEnded(ctx context.Context, id, connection pg.ID, outcome status.Outcome) error {
	_, err := pg.Exec(ctx, d.Pool, "note a bulk's outcome", `UPDATE bulk_items SET outcome = $3, ended_at = $4 WHERE bulk_id = $1 AND connection_id = $2 AND outcome = ''`,
		id, connection, outcome, d.Now())
	return err
}

// LeaseBulk takes or renews a job's lease of a bulk. It returns false if another job has the lease.
func (d *DB) LeaseBulk(ctx context.Context, id, owner pg.ID, lasts time.Duration) (bool, error) {
	leased, err := pg.Exec(ctx, d.Pool, "lease bulk", `UPDATE bulks SET lease_owner = $2, leased_until = $4
		WHERE id = $1 AND (lease_owner = $2 OR leased_until IS NULL OR leased_until <= $3)`, id, owner, d.Now(), d.Now().Add(lasts))
	return leased > 0, err
}

// ReleaseBulk ends a job's lease of a bulk, so that another job can take it at once.
func (d *DB) ReleaseBulk(ctx context.Context, id, owner pg.ID) error {
	_, err := pg.Exec(ctx, d.Pool, "release bulk", `UPDATE bulks SET lease_owner = NULL, leased_until = NULL WHERE id = $1 AND lease_owner = $2`, id, owner)
	return err
}

// AbandonedBulks lists the bulks in a moving state that no job has leased.
func (d *DB) AbandonedBulks(ctx context.Context) ([]pg.ID, error) {
	return pg.Collect(ctx, d.Pool, "list bulks", pgx.RowTo[pg.ID], `SELECT id FROM bulks
		WHERE state = ANY ($2) AND coalesce(leased_until, created_at + interval '1 minute') <= $1 ORDER BY created_at`,
		d.Now(), []BulkState{BulkGathering, BulkRunning, BulkStopping})
}
