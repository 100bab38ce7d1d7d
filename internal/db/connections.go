package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/connectors"
	"patchbay/internal/pg"
)

// Connection is one merchant's account at one provider. It holds no secret: those are in its grant.
type Connection struct {
	ID             pg.ID
	MerchantID     pg.ID
	Provider       string
	Environment    string
	Account        connectors.Account
	Problem        string // one of the Problem codes; "" when there is nothing to put right
	ProblemSince   time.Time
	FailingSince   time.Time // zero while renewing works
	ConnectedBy    pg.ID
	ConnectedAt    time.Time
	DisconnectedAt time.Time // zero while it lives
}

// What someone must put right on a connection. Who that is follows from it: see WhoMustAct.
const (
	ProblemRefused     = "refused"     // the provider said no to the grant: reconnect
	ProblemInterrupted = "interrupted" // a renewal whose answer was lost, refused afterwards: reconnect
	ProblemLapsed      = "lapsed"      // the grant's own time is over: reconnect
	ProblemRevoked     = "revoked"     // access was ended at the provider: reconnect
	ProblemOurs        = "ours"        // our own client was refused
	ProblemSealed      = "sealed"      // its grant does not open: a key is missing
	ProblemEnvironment = "environment" // derived, never stored: it belongs to another environment than the provider's present one
)

// Health of a connection, derived and never stored.
const (
	Fine         = "fine"
	Retrying     = "retrying"
	ActionNeeded = "action-needed"
	Disconnected = "disconnected"
)

// Health says how the connection is. The SQL function connection_health says the same.
func (c Connection) Health() string {
	switch {
	case !c.DisconnectedAt.IsZero():
		return Disconnected
	case c.Problem != "":
		return ActionNeeded
	case !c.FailingSince.IsZero():
		return Retrying
	default:
		return Fine
	}
}

// WhoMustAct is "merchant", "provider", "platform", or "" when nobody must.
func (c Connection) WhoMustAct() string {
	switch {
	case !c.DisconnectedAt.IsZero():
		return ""
	case slices.Contains(platformProblems(), c.Problem):
		return "platform"
	case c.Problem != "":
		return "merchant"
	case !c.FailingSince.IsZero():
		return "provider"
	default:
		return ""
	}
}

func platformProblems() []string { return []string{ProblemOurs, ProblemSealed, ProblemEnvironment} }

const connectionColumns = `c.id, c.merchant_id, c.provider, c.environment, c.account_id, c.account_name, c.details, c.problem,
	c.problem_since, c.failing_since, c.connected_by, c.connected_at, c.disconnected_at`

// connectionTargets are what connectionColumns are scanned into.
func connectionTargets(c *Connection) []any {
	return []any{
		&c.ID, &c.MerchantID, &c.Provider, &c.Environment, &c.Account.ID, &c.Account.Name, &c.Account.Details, &c.Problem,
		&c.ProblemSince, &c.FailingSince, &c.ConnectedBy, &c.ConnectedAt, &c.DisconnectedAt,
	}
}

func scanConnection(row pgx.CollectableRow) (Connection, error) {
	var c Connection
	err := row.Scan(connectionTargets(&c)...)
	return c, err
}

// Owned is a live connection as its merchant's list shows it.
type Owned struct {
	Connection
	RefreshExpiresAt time.Time
	RefreshFixed     bool // renewing does not move RefreshExpiresAt: the merchant must come back by then
}

// MerchantConnections returns a merchant's live connections, oldest first.
func (d *DB) MerchantConnections(ctx context.Context, merchant pg.ID) ([]Owned, error) {
	rows, err := d.Pool.Query(ctx, `SELECT `+connectionColumns+`, g.refresh_expires_at, coalesce(g.refresh_fixed, false)
		FROM connections c LEFT JOIN grants g ON g.connection_id = c.id
		WHERE c.merchant_id = $1 AND c.disconnected_at IS NULL ORDER BY c.connected_at, c.id`, merchant)
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Owned, error) {
		var o Owned
		err := row.Scan(append(connectionTargets(&o.Connection), &o.RefreshExpiresAt, &o.RefreshFixed)...)
		return o, err
	})
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	return list, nil
}

// Whole is a connection with all that its page shows, save secrets.
type Whole struct {
	Connection
	Merchant, ExternalID                   string
	ExpiresAt, RefreshExpiresAt, RefreshAt time.Time
	RefreshedAt, UsedAt, LeasedUntil       time.Time
	UsedBy                                 string // the key's name
	Generation, Epoch                      int64
	Failures                               int
	RefreshFixed                           bool // renewing does not move RefreshExpiresAt
}

// WholeConnection reads one connection. merchant restricts whose it may be, zero for staff.
func (d *DB) WholeConnection(ctx context.Context, id, merchant pg.ID) (Whole, error) {
	var w Whole
	err := d.Pool.QueryRow(ctx, `SELECT `+connectionColumns+`, m.name, coalesce(m.external_id, ''), g.expires_at, g.refresh_expires_at, g.refresh_at,
			g.refreshed_at, g.used_at, g.leased_until, coalesce(k.name, ''), coalesce(g.generation, 0), coalesce(g.epoch, 0), coalesce(g.failures, 0), coalesce(g.refresh_fixed, false)
		FROM connections c JOIN merchants m ON m.id = c.merchant_id LEFT JOIN grants g ON g.connection_id = c.id LEFT JOIN api_keys k ON k.id = g.used_by
		WHERE c.id = $1 AND ($2::uuid IS NULL OR c.merchant_id = $2)`, id, merchant).
		Scan(append(connectionTargets(&w.Connection), &w.Merchant, &w.ExternalID, &w.ExpiresAt, &w.RefreshExpiresAt, &w.RefreshAt, &w.RefreshedAt, &w.UsedAt, &w.LeasedUntil, &w.UsedBy,
			&w.Generation, &w.Epoch, &w.Failures, &w.RefreshFixed)...)
	if err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return w, pg.ErrNotFound
		}
		return w, fmt.Errorf("read connection: %w", err)
	}
	return w, nil
}
