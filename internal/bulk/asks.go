package bulk

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// askInterval is how long bulks leave out a connection whose merchant was asked to reconnect it.
const askInterval = 24 * time.Hour

// AskToReconnect mails the merchant's people who can sign in, and returns their addresses; none if mail is false. The event is added in
// either case, and lists the addresses.
func AskToReconnect(ctx context.Context, d *db.DB, by audit.Actor, c db.Connection, mail bool, queue notify.Queue) (addresses []string, err error) {
	err = d.Tx(ctx, func(tx pgx.Tx) error {
		if err := lockAsk(ctx, tx, c.ID); err != nil {
			return err
		}
		var people []askedPerson
		if mail {
			if people, err = askedPeople(ctx, tx, c.MerchantID); err != nil {
				return err
			}
		}
		addresses, err = askPeople(ctx, d, tx, by, c, people, queue)
		return err
	})
	return addresses, err
}

// AskOne asks for one connection that an asking bulk has left, and stores the outcome in the same transaction, so that it is asked once
// whatever becomes of the process. It sends no mail and stores why if the connection does not need its merchant any more, if it was asked
// within a day, or if it has no user who can be mailed. It does nothing if the bulk is not asking any more. present holds the providers' present settings.
func AskOne(ctx context.Context, d *db.DB, bulk Bulk, connection pg.ID, present status.Providers, queue notify.Queue) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		if err := lockAsk(ctx, tx, connection); err != nil {
			return err
		}
		waits, err := pg.Exec(ctx, tx, "lock a bulk's connection", `SELECT FROM bulk_items i JOIN bulks b ON b.id = i.bulk_id
			WHERE i.bulk_id = $1 AND i.connection_id = $2 AND i.outcome = '' AND b.state = $3 FOR UPDATE OF i FOR SHARE OF b`, bulk.ID, connection, Asking)
		if err != nil || waits == 0 {
			return err
		}
		connections, err := db.ReadConnections(ctx, tx, connection)
		if err != nil || len(connections) == 0 {
			return cmp.Or(err, pg.ErrNotFound)
		}
		c := connections[0]
		people, err := askedPeople(ctx, tx, c.MerchantID)
		if err != nil {
			return err
		}
		now := d.Now()
		asked, err := pg.One(ctx, tx, "read the last ask", pgx.RowTo[bool], `SELECT `+askedSince("$1", "$2", "$3"), connection, status.ConnectionReconnectAsked, now.Add(-askInterval))
		if err != nil {
			return err
		}
		outcome := status.Asked
		switch {
		case !needsMerchant(c, present, now):
			outcome = status.Skipped
		case asked:
			outcome = status.AskedBefore
		case len(people) == 0:
			outcome = status.NoPerson
		default:
			if _, err := askPeople(ctx, d, tx, audit.Actor{Role: bulk.ByRole, ID: bulk.CreatedBy}, c, people, queue); err != nil {
				return err
			}
		}
		return RecordOutcome(ctx, tx, bulk.ID, connection, outcome, now)
	})
}

// lockAsk has every ask for a connection see the one before it.
func lockAsk(ctx context.Context, tx pgx.Tx, connection pg.ID) error {
	_, err := pg.Exec(ctx, tx, "lock asks", `SELECT pg_advisory_xact_lock(hashtextextended('ask ' || $1, 0))`, connection.String())
	return err
}

func askPeople(ctx context.Context, d *db.DB, tx pgx.Tx, by audit.Actor, c db.Connection, people []askedPerson, queue notify.Queue) (addresses []string, err error) {
	for _, one := range people {
		m := notify.Mail{Kind: notify.MailReconnect, User: one.ID, By: by.ID, Connections: []pg.ID{c.ID}}
		if err := queue.EnqueueMail(ctx, tx, m); err != nil {
			return nil, fmt.Errorf("enqueue %s: %w", m.Kind, err)
		}
		addresses = append(addresses, one.Email)
	}
	return addresses, d.Audit.Add(ctx, tx, audit.Event{
		Kind: status.ConnectionReconnectAsked, Actor: by,
		MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider, Note: strings.Join(addresses, ", "),
	})
}

type askedPerson struct {
	ID    pg.ID
	Email string
}

func askedPeople(ctx context.Context, tx pgx.Tx, merchant pg.ID) ([]askedPerson, error) {
	return pg.Collect(ctx, tx, "read users to ask", pgx.RowToStructByPos[askedPerson],
		`SELECT id, email FROM users u WHERE merchant_id = $1 AND `+notify.Mailable+` ORDER BY lower(email), id`, merchant)
}

// askedSince is the SQL condition that the merchant was asked to reconnect a connection after a time.
func askedSince(connection, kind, since string) string {
	return `EXISTS (SELECT FROM events e WHERE e.connection_id = ` + connection + ` AND e.kind = ` + kind + ` AND e.at > ` + since + `)`
}

// needsMerchant reports whether only the merchant can put the connection right, or must reconnect it within search.LapsingDays.
func needsMerchant(c db.Connection, present status.Providers, now time.Time) bool {
	s := status.Of(c.Row(), present[c.Provider])
	return s.Party == status.PartyMerchant || !s.ReconnectBy.IsZero() && !s.ReconnectBy.After(now.AddDate(0, 0, search.LapsingDays))
}
