package webhooks

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// DeliveryState is what became of a delivery.
type DeliveryState string

// The states of a delivery.
const (
	Waiting   DeliveryState = "waiting" // it is tried, maybe again
	Delivered DeliveryState = "delivered"
	Failed    DeliveryState = "failed" // it is not tried any more
)

// DeliveryStates lists every DeliveryState.
func DeliveryStates() []DeliveryState { return []DeliveryState{Waiting, Delivered, Failed} }

// Delivery is one event for one endpoint.
type Delivery struct {
	ID         pg.ID
	Endpoint   pg.ID
	Host       string // the endpoint's address, for people
	Event      pg.ID
	Type       Type
	Connection pg.ID // zero unless the event is one of a connection
	At         time.Time
	State      DeliveryState
	DueAt      time.Time // of the next try after a failed one; zero otherwise
	Tries      int
	TriedAt    time.Time // the latest try
	Status     int       // the HTTP status of its answer; 0 when none came
	Reason     Reason    // why none came
	Took       time.Duration
}

// Filter says which deliveries a list shows. What is zero filters nothing.
type Filter struct {
	Endpoint pg.ID
	State    DeliveryState
}

var newest = pg.Order{Name: "newest", Key: "d.created_at", Type: "timestamptz", ID: "d.id", Descending: true}

// Deliveries returns one page of the deliveries that the filter shows, newest first, at most limit, from a cursor on; "" is the beginning.
func (w *Webhooks) Deliveries(ctx context.Context, f Filter, cursor string, limit int) (pg.Page[Delivery], error) {
	from := newest.ParseCursor(cursor)
	var args pg.Args
	where := []string{`true`}
	if f.Endpoint != (pg.ID{}) {
		where = append(where, `d.endpoint_id = `+args.Add(f.Endpoint))
	}
	if f.State != "" {
		where = append(where, `d.state = `+args.Add(f.State))
	}
	after := newest.After(from, args.Add)
	all, err := pg.Collect(ctx, w.DB.Pool, "list deliveries", func(row pgx.CollectableRow) (d Delivery, err error) {
		var millis int
		err = row.Scan(&d.ID, &d.Endpoint, &d.Host, &d.Event, &d.Type, &d.Connection, &d.At, &d.State, &d.DueAt, &d.Tries, &d.TriedAt, &d.Status, &d.Reason, &millis)
		d.Took = time.Duration(millis) * time.Millisecond
		return d, err
	}, `SELECT d.id, d.endpoint_id, e.url, v.id, v.type, v.connection_id, d.created_at, d.state, CASE WHEN d.state = 'waiting' AND d.tries > 0 THEN nullif(d.due_at, '-infinity') END,
			d.tries, d.tried_at, d.status, d.reason, d.millis
		FROM webhook_deliveries d JOIN webhook_events v ON v.id = d.event_id JOIN webhook_endpoints e ON e.id = d.endpoint_id
		WHERE `+strings.Join(where, " AND ")+after+newest.OrderBy(from)+` LIMIT `+strconv.Itoa(limit+1), args...)
	if err != nil {
		return pg.Page[Delivery]{}, err
	}
	return pg.CutPage(newest, all, from, limit, func(d Delivery) (string, pg.ID) { return pg.TimeKey(d.At), d.ID }), nil
}

// dueAgain has a delivery sent at once, by the whole schedule if it fails.
const dueAgain = `state = 'waiting', due_at = '-infinity', tries = 0`

// Resend sends one delivery again, also one that was taken. It returns the host it goes to, and pg.ErrNotFound if there is no such
// delivery.
func (w *Webhooks) Resend(ctx context.Context, by audit.Actor, delivery pg.ID) (e Endpoint, err error) {
	endpoint, err := pg.One(ctx, w.DB.Pool, "read delivery", pgx.RowTo[pg.ID], `SELECT endpoint_id FROM webhook_deliveries WHERE id = $1`, delivery)
	if err != nil {
		return e, err
	}
	return w.change(ctx, by, endpoint, status.WebhookResent, func(tx pgx.Tx, _ Endpoint, _ sealedEndpoint) error {
		_, err := pg.Exec(ctx, tx, "send again", `UPDATE webhook_deliveries SET `+dueAgain+` WHERE id = $1`, delivery)
		return err
	})
}

// ResendFailed sends an endpoint again what failed since a time, and returns how many deliveries that is.
func (w *Webhooks) ResendFailed(ctx context.Context, by audit.Actor, endpoint pg.ID, since time.Time) (n int64, err error) {
	_, err = w.change(ctx, by, endpoint, status.WebhookResent, func(tx pgx.Tx, _ Endpoint, _ sealedEndpoint) error {
		n, err = pg.Exec(ctx, tx, "send again", `UPDATE webhook_deliveries SET `+dueAgain+` WHERE endpoint_id = $1 AND state = 'failed' AND created_at >= $2`, endpoint, since)
		return err
	})
	return n, err
}
