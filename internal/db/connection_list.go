package db

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/schedule"
	"patchbay/internal/search"
)

// ConnectionRow is a connection as lists show it.
type ConnectionRow struct {
	Connection
	MerchantName string
	ExternalID   string    // the platform's own id of the merchant
	ExpiresAt    time.Time // of the present token
	RefreshedAt  time.Time
	RefreshAt    time.Time // zero if no refresh is planned
	UsedAt       time.Time
}

// What is read of a connection's merchant and grant, after what is read of itself. A grant that nothing renews is due at its end, which is
// no refresh.
const (
	joinedColumns = `, CASE WHEN g.refresh_expiry_fixed THEN g.refresh_expires_at END, g.renewable IS FALSE,
	m.name, coalesce(m.external_id, ''), g.expires_at, g.refreshed_at, CASE WHEN g.renewable THEN g.refresh_at END, g.used_at`
	joinRow = ` JOIN merchants m ON m.id = c.merchant_id LEFT JOIN grants g ON g.connection_id = c.id`
)

// scanRow scans a row, and more after it.
func (d *DB) scanRow(row pgx.CollectableRow, r *ConnectionRow, more ...any) error {
	err := row.Scan(append(append(connectionTargets(&r.Connection), &r.MerchantName, &r.ExternalID, &r.ExpiresAt, &r.RefreshedAt, &r.RefreshAt, &r.UsedAt), more...)...)
	if !r.RefreshedAt.IsZero() && !schedule.Possible(r.ExpiresAt, r.ExpiresAt.Sub(r.RefreshedAt), d.Now()) {
		r.ExpiresAt = time.Time{} // obtained by a clock that has been put back since
	}
	return err
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
		return d.connections(ctx, q, f, details, cursor, limit)
	})
}

func (d *DB) connections(ctx context.Context, q pg.Querier, f search.Filter, details []string, cursor string, limit int) (ConnectionPage, error) {
	var page ConnectionPage
	if reference := Reference(f.Query); reference != "" {
		flows, err := pg.Collect(ctx, q, "read flow", scanFlow, `SELECT `+flowColumns+` FROM flows f WHERE f.reference = $1`, reference)
		if err != nil {
			return page, err
		}
		only, err := connectionIDsByReference(ctx, q, reference)
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
	found, err := search.IDs(ctx, q, d.Now(), f, cursor, limit)
	if err != nil {
		return page, err
	}
	page.Prev, page.Next, page.Similar, page.About = found.Prev, found.Next, found.Similar, found.About
	page.Rows, err = pg.Collect(ctx, q, "read connections", func(row pgx.CollectableRow) (r ConnectionRow, err error) {
		return r, d.scanRow(row, &r)
	}, `SELECT `+listedColumns+joinedColumns+` FROM unnest($2::uuid[]) WITH ORDINALITY AS page (id, nth) JOIN connections c ON c.id = page.id`+joinRow+`
		ORDER BY page.nth`, details, found.Rows)
	return page, err
}

// ConnectionIDsByReference returns the ids of the connections that have a reference. Several may have it.
func (d *DB) ConnectionIDsByReference(ctx context.Context, reference string) ([]pg.ID, error) {
	return pg.Read(ctx, d.DB, func(ctx context.Context, q pg.Querier) ([]pg.ID, error) {
		return connectionIDsByReference(ctx, q, reference)
	})
}

func connectionIDsByReference(ctx context.Context, q pg.Querier, reference string) ([]pg.ID, error) {
	return pg.Collect(ctx, q, "read connections by reference", pgx.RowTo[pg.ID], `SELECT c.id FROM connections c WHERE right(c.id::text, 10) = $1 LIMIT 100`, idSuffix(reference))
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
