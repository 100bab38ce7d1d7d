package db

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/schedule"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// Connection is one merchant's account at one provider. It holds no secret: those are in its grant.
type Connection struct {
	ID             pg.ID
	MerchantID     pg.ID
	Provider       string
	Environment    string
	Account        connectors.Account
	Nickname       string         // what its merchant or staff call it; "" if they gave it no name
	Problem        status.Problem // as stored: see status.Of
	ProblemSince   time.Time
	FailingSince   time.Time // zero while refreshing works
	ConnectedBy    pg.ID
	ConnectedAt    time.Time
	DisconnectedAt time.Time // zero while it is connected
	Scopes         GrantedScopes
	AccessEnds     time.Time // access ends then, however often it is refreshed; zero when refreshing extends it, or when nothing is known
	Unrenewable    bool      // nothing is held that gives new access: it is good until AccessEnds, or until the provider ends it
}

// GrantedScopes are those of a connection's access when the merchant connected it, as its provider named them.
type GrantedScopes struct{ Granted, Missing []string }

// Row returns what status.Of needs to know of the connection.
func (c Connection) Row() status.Row {
	return status.Row{
		Environment: c.Environment, Problem: c.Problem, ProblemSince: c.ProblemSince, FailingSince: c.FailingSince,
		DisconnectedAt: c.DisconnectedAt, AccessEnds: c.AccessEnds,
	}
}

// The columns of a connection: whose account it is, what is known of the account, the connection's state, and what is read of its grant.
const (
	connectionColumns = identityColumns + accountColumns + stateColumns + grantColumns

	identityColumns = `c.id, c.merchant_id, c.provider, c.environment, c.account_id, c.account_name, c.nickname`
	accountColumns  = `, c.details, c.account_values, c.account_input`
	stateColumns    = `, c.scopes_granted, c.scopes_missing, c.problem, c.problem_since, c.failing_since, c.connected_by, c.connected_at, c.disconnected_at`
	grantColumns    = `, (SELECT CASE WHEN s.refresh_expiry_fixed THEN s.refresh_expires_at END FROM grants s WHERE s.connection_id = c.id),
	EXISTS (SELECT FROM grants s WHERE s.connection_id = c.id AND NOT s.renewable)`
)

// listedColumns are those of identity, account and state for a list that shows only the details whose keys $1 names: of the account's
// others and of its input nothing is read. A null shows all of them. Its values are read in any case: they tell accounts of one person apart.
const listedColumns = identityColumns + `,
	CASE WHEN $1::text[] IS NULL THEN c.details
		WHEN $1 = '{}' THEN '[]'
		ELSE (SELECT coalesce(jsonb_agg(d ORDER BY n), '[]') FROM jsonb_array_elements(c.details) WITH ORDINALITY AS e (d, n) WHERE d->>'key' = ANY($1)) END,
	c.account_values, CASE WHEN $1 IS NULL THEN c.account_input END` + stateColumns

// connectionTargets are what connectionColumns are scanned into.
func connectionTargets(c *Connection) []any {
	return []any{
		&c.ID, &c.MerchantID, &c.Provider, &c.Environment, &c.Account.ID, &c.Account.Name, &c.Nickname, &c.Account.Details, &c.Account.Values, &c.Account.Input,
		&c.Scopes.Granted, &c.Scopes.Missing, &c.Problem, &c.ProblemSince, &c.FailingSince, &c.ConnectedBy, &c.ConnectedAt, &c.DisconnectedAt, &c.AccessEnds, &c.Unrenewable,
	}
}

func scanConnection(row pgx.CollectableRow) (Connection, error) {
	var c Connection
	err := row.Scan(connectionTargets(&c)...)
	return c, err
}

// ReadConnections reads connections by their ids, in any order. It leaves out those that there are not.
func ReadConnections(ctx context.Context, q pg.Querier, ids ...pg.ID) ([]Connection, error) {
	return pg.Collect(ctx, q, "read connections", scanConnection, `SELECT `+connectionColumns+` FROM connections c WHERE c.id = ANY ($1)`, ids)
}

// MerchantConnections returns a merchant's connections that are not disconnected, oldest first, with these details of their accounts; nil
// is all.
func (d *DB) MerchantConnections(ctx context.Context, merchant pg.ID, details []string) ([]Connection, error) {
	return pg.Collect(ctx, d.Pool, "read connections", scanConnection, `SELECT `+listedColumns+grantColumns+` FROM connections c
		WHERE c.merchant_id = $2 AND c.disconnected_at IS NULL ORDER BY c.connected_at, c.id`, details, merchant)
}

// MerchantProviders returns the names of the providers at which a merchant has an account connected.
func (d *DB) MerchantProviders(ctx context.Context, merchant pg.ID) ([]string, error) {
	return pg.Collect(ctx, d.Pool, "read providers of a merchant", pgx.RowTo[string], `SELECT DISTINCT provider FROM connections
		WHERE merchant_id = $1 AND disconnected_at IS NULL`, merchant)
}

// DisconnectedConnections returns one page of a merchant's connections that were disconnected, the latest first, with these details of their
// accounts.
func (d *DB) DisconnectedConnections(ctx context.Context, merchant pg.ID, details []string, cursor string, limit int) (pg.Page[Connection], error) {
	order := pg.Order{Name: "ended", Key: "c.disconnected_at", Type: "timestamptz", ID: "c.id", Descending: true}
	from, args := order.ParseCursor(cursor), pg.Args{details, merchant}
	after := order.After(from, args.Add)
	all, err := pg.Collect(ctx, d.Pool, "read ended connections", scanConnection, `SELECT `+listedColumns+grantColumns+` FROM connections c
		WHERE c.merchant_id = $2 AND c.disconnected_at IS NOT NULL`+after+order.OrderBy(from)+` LIMIT `+strconv.Itoa(limit+1), args...)
	return pg.CutPage(order, all, from, limit, func(c Connection) (string, pg.ID) { return pg.TimeKey(c.DisconnectedAt), c.ID }), err
}

// HasDisconnected reports whether a merchant has a connection that was disconnected.
func (d *DB) HasDisconnected(ctx context.Context, merchant pg.ID) (has bool, err error) {
	return has, d.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM connections WHERE merchant_id = $1 AND disconnected_at IS NOT NULL)`, merchant).Scan(&has)
}

// ConnectionDetail is a connection with what its page shows. It holds no secret.
type ConnectionDetail struct {
	ConnectionRow
	Generation  int64 // of the grant: it rises with each token saved
	Version     int64 // of the connection that the grant was obtained for
	Failures    int
	LastOutcome status.Outcome
	LeasedUntil time.Time // zero if no refresh is under way
	RecheckAt   time.Time // when a refresh shows whether access has ended, as a webhook says; zero if none does
	UsedBy      string    // the key's name
}

const selectDetail = `SELECT ` + identityColumns + accountColumns + stateColumns + joinedColumns + `,
		coalesce(g.generation, 0), coalesce(g.connection_version, 0), coalesce(g.failures, 0), coalesce(g.last_outcome, ''),
		g.leased_until, r.due_at, coalesce(k.name, '')
	FROM connections c` + joinRow + ` LEFT JOIN rechecks r ON r.connection_id = c.id LEFT JOIN api_keys k ON k.id = g.used_by `

func (d *DB) scanDetail(row pgx.CollectableRow) (c ConnectionDetail, err error) {
	return c, d.scanRow(row, &c.ConnectionRow, &c.Generation, &c.Version, &c.Failures, &c.LastOutcome, &c.LeasedUntil, &c.RecheckAt, &c.UsedBy)
}

// NextRefresh returns why the next refresh is at RefreshAt.
func (c ConnectionDetail) NextRefresh(now time.Time) status.NextRefresh {
	switch {
	case c.LeasedUntil.After(now):
		return status.NextRunning
	case !c.LeasedUntil.IsZero():
		return status.NextInterrupted
	case !c.RecheckAt.IsZero() && (c.RefreshAt.IsZero() || c.RecheckAt.Before(c.RefreshAt)):
		return status.NextVerifying
	case c.Unrenewable:
		return status.NextUnrenewable
	case c.RefreshAt.IsZero():
		return status.NextNever
	case c.LastOutcome == status.RateLimited:
		return status.NextAskedToWait
	case c.LastOutcome != status.OK:
		return status.NextFailing
	case now.Sub(c.UsedAt) < schedule.InUse:
		return status.NextKeptWarm
	default:
		return status.NextKeptAlive
	}
}

// ConnectionDetail returns a connection. It returns ErrNotFound if there is none, or if merchant is not zero and not its merchant.
func (d *DB) ConnectionDetail(ctx context.Context, id, merchant pg.ID) (ConnectionDetail, error) {
	return pg.One(ctx, d.Pool, "read connection", d.scanDetail, selectDetail+`WHERE c.id = $1 AND ($2::uuid IS NULL OR c.merchant_id = $2)`, id, merchant)
}

// ConnectionDetails returns those of the connections that there are.
func (d *DB) ConnectionDetails(ctx context.Context, ids []pg.ID) ([]ConnectionDetail, error) {
	return pg.Collect(ctx, d.Pool, "read connections", d.scanDetail, selectDetail+`WHERE c.id = ANY ($1)`, ids)
}

// SetNickname gives a connection a nickname, or removes it with "". It returns ErrNotFound if there is no such connection, or if merchant
// is not zero and not its merchant.
func (d *DB) SetNickname(ctx context.Context, id, merchant pg.ID, nickname string, by audit.Actor) error {
	return d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		c, err := pg.One(ctx, tx, "read connection", scanConnection, `SELECT `+connectionColumns+` FROM connections c
			WHERE c.id = $1 AND ($2::uuid IS NULL OR c.merchant_id = $2) FOR NO KEY UPDATE`, id, merchant)
		if err != nil || c.Nickname == nickname {
			return err
		}
		b := &pgx.Batch{}
		b.Queue(`UPDATE connections SET nickname = $2 WHERE id = $1`, id, nickname)
		search.QueueDocument(b, id, SearchText(c.Account))
		d.Audit.Queue(b, audit.Event{Kind: status.ConnectionNamed, Actor: by, MerchantID: c.MerchantID, ConnectionID: id, Provider: c.Provider})
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return fmt.Errorf("name connection: %w", err)
		}
		return nil
	})
}

// MailConnections reads the connections that a mail is about, those of one merchant only.
func (d *DB) MailConnections(ctx context.Context, merchant pg.ID, ids []pg.ID) ([]Connection, error) {
	return pg.Collect(ctx, d.Pool, "read a mail's connections", scanConnection, `SELECT `+connectionColumns+` FROM connections c
		WHERE c.id = ANY($1) AND c.merchant_id = $2 ORDER BY c.provider, c.account_name, c.id`, ids, merchant)
}
