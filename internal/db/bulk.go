package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// Bulk is work on all connections that a list showed.
type Bulk struct {
	ID        pg.ID
	Kind      BulkKind
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
	Merchants int64 // of a dry run of asks: of the connections that wait
}

// Waiting returns how many connections have no outcome yet.
func (b Bulk) Waiting() int64 { return b.Total - b.Done }

// BulkKind is what a bulk does.
type BulkKind string

// The kinds of bulks.
const (
	BulkRefresh BulkKind = "refresh"
	BulkAsk     BulkKind = "ask" // asks merchants to reconnect
)

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

	// Of asks, in place of BulkGathering and BulkRunning: the version before knows no asks, and does not work on these.
	BulkCollecting BulkState = "collecting"
	BulkAsking     BulkState = "asking"
)

// Gathering reports whether the connections of a bulk in this state are being collected.
func (s BulkState) Gathering() bool { return s == BulkGathering || s == BulkCollecting }

// Running reports whether a bulk in this state refreshes or asks.
func (s BulkState) Running() bool { return s == BulkRunning || s == BulkAsking }

// Moving reports whether a job works on a bulk in this state.
func (s BulkState) Moving() bool {
	return s.Gathering() || s.Running() || s == BulkStopping
}

// ErrBulkState is returned if a bulk is in another state than the operation needs.
var ErrBulkState = errors.New("the bulk is in another state")

// BulkFilter is what a bulk is made from: one of the two lists.
type BulkFilter struct {
	Connections *search.Filter `json:"connections,omitempty"`
	Events      *audit.Filter  `json:"events,omitempty"` // the connections that the events are about
}

// AddBulk adds a bulk as a dry run, whose connections GatherBulk collects. note goes into the event.
func (d *DB) AddBulk(ctx context.Context, by audit.Actor, kind BulkKind, f BulkFilter, note string) (pg.ID, error) {
	id, state := pg.NewID(), BulkGathering
	if kind == BulkAsk {
		state = BulkCollecting
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

// GatherBulk collects connections that the bulk's list shows and that are not disconnected, about most of them, from where the last
// call ended. Of a bulk of asks it leaves out what does not need its merchant, and stores at once why others will not be asked. It returns
// true once all are collected and the dry run is complete. present holds the providers' present settings.
func (d *DB) GatherBulk(ctx context.Context, id pg.ID, present status.Providers, most int) (bool, error) {
	for noted := 0; ; {
		var state BulkState
		var cursor string
		var filter BulkFilter
		err := d.Pool.QueryRow(ctx, `SELECT state, filter, cursor FROM bulks WHERE id = $1`, id).Scan(&state, &filter, &cursor)
		if err != nil {
			return false, fmt.Errorf("read bulk: %w", pg.NotFound(err))
		}
		if !state.Gathering() {
			return true, nil
		}
		connections, next, err := d.listed(ctx, filter, present, cursor, min(1000, most))
		if err != nil {
			return false, err
		}
		before, asks := state, state == BulkCollecting
		if next == "" {
			state = BulkDryRun
		}
		err = d.Tx(ctx, func(tx pgx.Tx) error {
			if asks {
				if err := d.gatherAsks(ctx, tx, id, connections, present); err != nil {
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
		if noted += len(connections); state == BulkDryRun || noted >= most {
			return state == BulkDryRun, nil
		}
	}
}

func (d *DB) gatherAsks(ctx context.Context, tx pgx.Tx, bulk pg.ID, connections []pg.ID, present status.Providers) error {
	all, err := pg.Collect(ctx, tx, "read connections", scanConnection, `SELECT `+connectionColumns+` FROM connections c WHERE c.id = ANY($1)`, connections)
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
		ON CONFLICT DO NOTHING`, bulk, needed, status.ConnectionReconnectAsked, now.Add(-askAgain), status.AskedBefore, now, status.NoPerson)
	return err
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
		return b, row.Scan(&b.Kind, &b.Filter, &b.State, &b.CreatedBy, &b.ByName, &b.ByRole, &b.CreatedAt, &b.EndedAt)
	}, `
		SELECT b.kind, b.filter, b.state, b.created_by, coalesce(nullif(u.name, ''), u.email), u.role, b.created_at, b.ended_at
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
	if b.Kind == BulkAsk && b.State == BulkDryRun {
		b.Merchants, err = pg.One(ctx, d.Pool, "count merchants", pgx.RowTo[int64], `SELECT count(DISTINCT c.merchant_id) FROM bulk_items i JOIN connections c ON c.id = i.connection_id
			WHERE i.bulk_id = $1 AND i.outcome = ''`, id)
	}
	return b, err
}

// StartBulk turns a dry run into refreshes or asks. It returns ErrBulkState if the bulk is not a dry run.
func (d *DB) StartBulk(ctx context.Context, by audit.Actor, b Bulk, jobs Jobs) error {
	to := BulkRunning
	if b.Kind == BulkAsk {
		to = BulkAsking
	}
	return d.moveBulk(ctx, by, b, []BulkState{BulkDryRun}, to, status.BulkBegun, jobs)
}

// StopBulk stops a running bulk: calls under way are finished and no other is begun. It returns ErrBulkState if the bulk is not
// running.
func (d *DB) StopBulk(ctx context.Context, by audit.Actor, b Bulk) error {
	return d.moveBulk(ctx, by, b, []BulkState{BulkRunning, BulkAsking}, BulkStopping, status.BulkStopped, nil)
}

func (d *DB) moveBulk(ctx context.Context, by audit.Actor, b Bulk, from []BulkState, to BulkState, kind status.Kind, jobs Jobs) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		moved, err := pg.Exec(ctx, tx, "move bulk", `UPDATE bulks SET state = $3 WHERE id = $1 AND state = ANY($2)`, b.ID, from, to)
		if err != nil {
			return err
		}
		if moved == 0 {
			return ErrBulkState
		}
		if jobs != nil {
			if err := jobs.EnqueueBulk(ctx, tx, b.ID, b.Kind); err != nil {
				return err
			}
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: kind, Actor: by, Reference: b.ID.String()})
	})
}

// EndBulk closes a bulk that has no connection left to work on: as stopped if StopBulk was called, else as done. It does nothing
// for a bulk in another state.
func (d *DB) EndBulk(ctx context.Context, id pg.ID) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		state, err := pg.One(ctx, tx, "end bulk", pgx.RowTo[BulkState], `UPDATE bulks SET state = CASE state WHEN $3 THEN $4 ELSE $5 END, ended_at = $2
			WHERE id = $1 AND state IN ($3, $6, $7) RETURNING state`, id, d.Now(), BulkStopping, BulkStopped, BulkDone, BulkRunning, BulkAsking)
		if errors.Is(err, pg.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.BulkEnded, Reference: id.String(), Code: string(state)})
	})
}

// BulkWaiting returns at most so many of a provider's connections that a running bulk has yet to work on.
func (d *DB) BulkWaiting(ctx context.Context, id pg.ID, provider string, most int) ([]pg.ID, error) {
	return pg.Collect(ctx, d.Pool, "read a bulk's connections", pgx.RowTo[pg.ID], `SELECT i.connection_id FROM bulk_items i JOIN bulks b ON b.id = i.bulk_id
		WHERE i.bulk_id = $1 AND i.provider = $2 AND i.outcome = '' AND b.state IN ($4, $5) ORDER BY i.connection_id LIMIT $3`, id, provider, most, BulkRunning, BulkAsking)
}

// BulkEnded stores the outcome of one connection's refresh in a bulk.
func (d *DB) BulkEnded(ctx context.Context, id, connection pg.ID, outcome status.Outcome) error {
	return bulkEnded(ctx, d.Pool, id, connection, outcome, d.Now())
}

func bulkEnded(ctx context.Context, q pg.Querier, id, connection pg.ID, outcome status.Outcome, now time.Time) error {
	_, err := pg.Exec(ctx, q, "note a bulk's outcome", `UPDATE bulk_items SET outcome = $3, ended_at = $4 WHERE bulk_id = $1 AND connection_id = $2 AND outcome = ''`,
		id, connection, outcome, now)
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

// AbandonedBulk is a bulk in a moving state that no job has leased.
type AbandonedBulk struct {
	ID   pg.ID
	Kind BulkKind
}

// AbandonedBulks lists them.
func (d *DB) AbandonedBulks(ctx context.Context) ([]AbandonedBulk, error) {
	return pg.Collect(ctx, d.Pool, "list bulks", pgx.RowToStructByPos[AbandonedBulk], `SELECT id, kind FROM bulks
		WHERE state = ANY ($2) AND coalesce(leased_until, created_at + interval '1 minute') <= $1 ORDER BY created_at`,
		d.Now(), []BulkState{BulkGathering, BulkCollecting, BulkRunning, BulkAsking, BulkStopping})
}
