package db

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/search"
)

// ConnectionRow is a connection as lists show it.
type ConnectionRow struct {
	Connection
	MerchantName string
	ExternalID   string // the platform's own id of the merchant
	RefreshedAt  time.Time
	UsedAt       time.Time
}

// ConnectionPage is one page of connections.
type ConnectionPage struct {
	pg.Page[ConnectionRow]
	Similar []string // the words that were searched instead of the typed ones, which find nothing
	Flow    *Flow    // the flow whose reference the query is; the rows are its connection
	About   int64    // how many connections the filter shows; -1 if they would have to be counted
}

// Connections returns one page of the connections that the filter shows, at most limit, from a cursor on; "" is the beginning. Of their accounts' details
// it reads those whose keys are given; nil is all. A query that is a
// reference finds the connections that have it, and the one that the flow led to whose reference it is.
func (d *DB) Connections(ctx context.Context, f search.Filter, details []string, cursor string, limit int) (ConnectionPage, error) {
	return pg.Read(ctx, d.DB, func(ctx context.Context, q pg.Querier) (ConnectionPage, error) {
		return connections(ctx, q, d.Now(), f, details, cursor, limit)
	})
}

func connections(ctx context.Context, q pg.Querier, now time.Time, f search.Filter, details []string, cursor string, limit int) (ConnectionPage, error) {
	var page ConnectionPage
	if reference := Reference(f.Query); reference != "" {
		flows, err := pg.Collect(ctx, q, "read flow", scanFlow, `SELECT `+flowColumns+` FROM flows f WHERE f.reference = $1`, reference)
		if err != nil {
			return page, err
		}
		only, err := referredTo(ctx, q, reference)
		if err != nil {
			return page, err
		}
		if len(flows) > 0 {
			page.Flow = &flows[0]
			only = append(only, page.Flow.ResultID, page.Flow.ConnectionID)
		}
		if len(only) > 0 {
			f.Query, f.Only = "", only
		}
	}
	found, err := search.IDs(ctx, q, now, f, cursor, limit)
	if err != nil {
		return page, err
	}
	page.Prev, page.Next, page.Similar, page.About = found.Prev, found.Next, found.Similar, found.About
	page.Rows, err = pg.Collect(ctx, q, "read connections", func(row pgx.CollectableRow) (ConnectionRow, error) {
		var r ConnectionRow
		return r, row.Scan(append(connectionTargets(&r.Connection), &r.MerchantName, &r.ExternalID, &r.RefreshedAt, &r.UsedAt)...)
	}, `SELECT `+listColumns+`, m.name, coalesce(m.external_id, ''), g.refreshed_at, g.used_at
		FROM unnest($2::uuid[]) WITH ORDINALITY AS page (id, nth) JOIN connections c ON c.id = page.id JOIN merchants m ON m.id = c.merchant_id LEFT JOIN grants g ON g.connection_id = c.id
		ORDER BY page.nth`, details, found.Rows)
	return page, err
}

// ReferredTo returns the ids of the connections that have a reference. More than one may have it.
func (d *DB) ReferredTo(ctx context.Context, reference string) ([]pg.ID, error) {
	return pg.Read(ctx, d.DB, func(ctx context.Context, q pg.Querier) ([]pg.ID, error) { return referredTo(ctx, q, reference) })
}

func referredTo(ctx context.Context, q pg.Querier, reference string) ([]pg.ID, error) {
	return pg.Collect(ctx, q, "read connections by reference", pgx.RowTo[pg.ID], `SELECT c.id FROM connections c WHERE right(c.id::text, 10) = $1 LIMIT 100`, idEnd(reference))
}

// EachConnection calls do with every connection the filter shows, in its order, and these details of its account. It reads them in batches and holds no
// connection to the database while do runs, so that a slow download delays nothing else.
func (d *DB) EachConnection(ctx context.Context, f search.Filter, details []string, do func(ConnectionRow) error) error {
	for cursor := ""; ; {
		page, err := d.Connections(ctx, f, details, cursor, 1000)
		if err != nil {
			return err
		}
		for _, row := range page.Rows {
			if err := do(row); err != nil {
				return err
			}
		}
		if cursor = page.Next; cursor == "" {
			return nil
		}
	}
}
