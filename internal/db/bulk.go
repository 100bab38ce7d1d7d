package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"patchbay/internal/search"
	"patchbay/internal/status"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
)

// Bulk is a refresh of all connections that a list showed.
type Bulk struct {
	ID        pg.ID
	Filter    BulkFilter
	State     string // one of the Bulk states
	CreatedBy pg.ID
	ByName    string
	ByRole    string
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

// The states of a bulk.
const (
	BulkGathering = "gathering" // its connections are still being collected
	BulkDryRun    = "dry-run"   // counted, nothing sent
	BulkRunning   = "running"
	BulkStopping  = "stopping" // calls under way are finished
	BulkStopped   = "stopped"
	BulkDone      = "done"
)

// ErrBulkState is returned when a bulk is in another state than the operation needs.
var ErrBulkState = errors.New("the bulk is in another state")

// BulkFilter is what a bulk is made from: one of the two lists.
type BulkFilter struct {
	Connections *search.Filter `json:"connections,omitempty"`
	Events      *audit.Filter  `json:"events,omitempty"` // the connections that the events are about
}

// AddBulk begins a bulk as a dry run. Its connections are noted by GatherBulk. note goes into the event.
func (d *DB) AddBulk(ctx context.Context, by audit.Actor, f BulkFilter, note string) (pg.ID, error) {
	id := pg.NewID()
	err := d.Tx(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO bulks (id, filter, state, created_by, created_at) VALUES ($1, $2, $3, $4, $5)`,
			id, f, BulkGathering, by.ID, d.Now())
		if err != nil {
			return fmt.Errorf("add bulk: %w", err)
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.BulkCounted, Actor: by, Reference: id.String(), Note: note})
	})
	return id, err
}

// GatherBulk notes the live connections that the bulk's list shows, about most of them, going on where it stopped
// before. It returns whether the last has been noted, with which the dry run is complete. present are the providers
// as they are now.
func (d *DB) GatherBulk(ctx context.Context, id pg.ID, present status.Providers, most int) (bool, error) {
	for noted := 0; ; {
		var state, cursor string
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

// listed returns one page of the connections in a list, and where the next begins.
func (d *DB) listed(ctx context.Context, f BulkFilter, providers status.Providers, cursor string, limit int) (connections []pg.ID, next string, err error) {
	if f.Events != nil {
		page, err := d.Audit.List(ctx, *f.Events, cursor, limit)
		for _, line := range page.All {
			connections = append(connections, line.ConnectionID)
		}
		return connections, page.Next, err
	}
	f.Connections.Providers = providers
	page, err := search.IDs(ctx, d.Pool, d.Now(), *f.Connections, cursor, limit)
	return page.Rows, page.Next, err
}

// Bulk reads one with its counts.
func (d *DB) Bulk(ctx context.Context, id pg.ID) (Bulk, error) {
	b := Bulk{ID: id, Outcomes: map[status.Outcome]int64{}}
	err := d.Pool.QueryRow(ctx, `SELECT b.filter, b.state, b.created_by, coalesce(nullif(u.name, ''), u.email), u.role, b.created_at, b.ended_at
		FROM bulks b JOIN users u ON u.id = b.created_by WHERE b.id = $1`, id).
		Scan(&b.Filter, &b.State, &b.CreatedBy, &b.ByName, &b.ByRole, &b.CreatedAt, &b.EndedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		return b, pg.ErrNotFound
	}
	if err != nil {
		return b, fmt.Errorf("read bulk: %w", err)
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

// StartBulk makes a dry run real. It returns ErrBulkState when the bulk is not a dry run.
func (d *DB) StartBulk(ctx context.Context, by audit.Actor, id pg.ID, jobs Jobs) error {
	return d.moveBulk(ctx, by, id, BulkDryRun, BulkRunning, status.BulkBegun, jobs)
}

// StopBulk asks a running bulk to stop: calls under way are finished and none is begun. It returns ErrBulkState when the bulk does not
// run.
func (d *DB) StopBulk(ctx context.Context, by audit.Actor, id pg.ID) error {
	return d.moveBulk(ctx, by, id, BulkRunning, BulkStopping, status.BulkStopped, nil)
}

func (d *DB) moveBulk(ctx context.Context, by audit.Actor, id pg.ID, from, to string, kind status.Kind, jobs Jobs) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `UPDATE bulks SET state = $3 WHERE id = $1 AND state = $2`, id, from, to)
		if err != nil {
			return fmt.Errorf("move bulk: %w", err)
		}
		if tag.RowsAffected() == 0 {
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

// EndBulk closes a bulk that has nothing left to do: as stopped when it was asked to stop, else as done.
func (d *DB) EndBulk(ctx context.Context, id pg.ID) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		var state string
		err := tx.QueryRow(ctx, `UPDATE bulks SET state = CASE state WHEN 'stopping' THEN 'stopped' ELSE 'done' END, ended_at = $2
			WHERE id = $1 AND state IN ('running', 'stopping') RETURNING state`, id, d.Now()).Scan(&state)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("end bulk: %w", err)
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.BulkEnded, Reference: id.String(), Code: state})
	})
}

// BulkWaiting returns some of a provider's connections that wait in a running bulk.
func (d *DB) BulkWaiting(ctx context.Context, id pg.ID, provider string, most int) ([]pg.ID, error) {
	rows, err := d.Pool.Query(ctx, `SELECT i.connection_id FROM bulk_items i JOIN bulks b ON b.id = i.bulk_id
		WHERE i.bulk_id = $1 AND i.provider = $2 AND i.outcome = '' AND b.state = 'running' ORDER BY i.connection_id LIMIT $3`, id, provider, most)
	if err != nil {
		return nil, fmt.Errorf("read bulk's connections: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID])
	if err != nil {
		return nil, fmt.Errorf("read bulk's connections: %w", err)
	}
	return ids, nil
}

// BulkEnded notes how one connection's refresh in a bulk ended.
func (d *DB) BulkEnded(ctx context.Context, id, connection pg.ID, outcome status.Outcome) error {
	_, err := d.Pool.Exec(ctx, `UPDATE bulk_items SET outcome = $3, ended_at = $4 WHERE bulk_id = $1 AND connection_id = $2 AND outcome = ''`, id, connection, outcome, d.Now())
	if err != nil {
		return fmt.Errorf("note bulk's outcome: %w", err)
	}
	return nil
}

// LeaseBulk gives a job the lease of a bulk for a while, or renews it. It returns false when another job has the lease.
func (d *DB) LeaseBulk(ctx context.Context, id, owner pg.ID, lasts time.Duration) (bool, error) {
	tag, err := d.Pool.Exec(ctx, `UPDATE bulks SET lease_owner = $2, leased_until = $4 WHERE id = $1 AND (lease_owner = $2 OR leased_until IS NULL OR leased_until <= $3)`,
		id, owner, d.Now(), d.Now().Add(lasts))
	if err != nil {
		return false, fmt.Errorf("lease bulk: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

// ReleaseBulk gives the lease back, so that another job can take it at once.
func (d *DB) ReleaseBulk(ctx context.Context, id, owner pg.ID) error {
	if _, err := d.Pool.Exec(ctx, `UPDATE bulks SET lease_owner = NULL, leased_until = NULL WHERE id = $1 AND lease_owner = $2`, id, owner); err != nil {
		return fmt.Errorf("release bulk: %w", err)
	}
	return nil
}

// AbandonedBulks lists the bulks that are not finished and that no job has leased.
func (d *DB) AbandonedBulks(ctx context.Context) ([]pg.ID, error) {
	rows, err := d.Pool.Query(ctx, `SELECT id FROM bulks WHERE state IN ('gathering', 'running', 'stopping') AND coalesce(leased_until, created_at + interval '1 minute') <= $1
		ORDER BY created_at`, d.Now())
	if err != nil {
		return nil, fmt.Errorf("list bulks: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID])
	if err != nil {
		return nil, fmt.Errorf("list bulks: %w", err)
	}
	return ids, nil
}
