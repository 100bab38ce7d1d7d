package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/connectors"
)

// Connection is one merchant's account at one provider. It holds no secret: those are in its grant.
type Connection struct {
	ID             ID
	MerchantID     ID
	Provider       string
	Environment    string
	Account        connectors.Account
	Problem        string // one of the Problem codes; "" when there is nothing to put right
	ProblemSince   time.Time
	FailingSince   time.Time // zero while renewing works
	ConnectedBy    ID
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

// connectionTargets are what connectionColumns are scanned into; call the function returned afterwards.
func connectionTargets(c *Connection) ([]any, func() error) {
	var details []byte
	var problemSince, failingSince, disconnectedAt *time.Time
	var by *ID
	return []any{
		&c.ID, &c.MerchantID, &c.Provider, &c.Environment, &c.Account.ID, &c.Account.Name, &details, &c.Problem,
		&problemSince, &failingSince, &by, &c.ConnectedAt, &disconnectedAt,
	}, func() error {
		c.ProblemSince, c.FailingSince, c.DisconnectedAt = timeOrZero(problemSince), timeOrZero(failingSince), timeOrZero(disconnectedAt)
		c.ConnectedAt, c.ConnectedBy = c.ConnectedAt.UTC(), idOrZero(by)
		if err := json.Unmarshal(details, &c.Account.Details); err != nil {
			return fmt.Errorf("details of connection %s: %w", c.ID, err)
		}
		return nil
	}
}

func scanConnection(row pgx.CollectableRow) (Connection, error) {
	var c Connection
	targets, finish := connectionTargets(&c)
	if err := row.Scan(targets...); err != nil {
		return c, err
	}
	return c, finish()
}

func timeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Owned is a live connection as its merchant's list shows it.
type Owned struct {
	Connection
	RefreshExpiresAt time.Time
	RefreshFixed     bool // renewing does not move RefreshExpiresAt: the merchant must come back by then
}

// MerchantConnections returns a merchant's live connections, oldest first.
func (d *DB) MerchantConnections(ctx context.Context, merchant ID) ([]Owned, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+connectionColumns+`, g.refresh_expires_at, coalesce(g.refresh_fixed, false)
		FROM connections c LEFT JOIN grants g ON g.connection_id = c.id
		WHERE c.merchant_id = $1 AND c.disconnected_at IS NULL ORDER BY c.connected_at, c.id`, merchant)
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Owned, error) {
		var o Owned
		var refreshExpires *time.Time
		targets, finish := connectionTargets(&o.Connection)
		if err := row.Scan(append(targets, &refreshExpires, &o.RefreshFixed)...); err != nil {
			return o, err
		}
		o.RefreshExpiresAt = timeOrZero(refreshExpires)
		return o, finish()
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
func (d *DB) WholeConnection(ctx context.Context, id, merchant ID) (Whole, error) {
	var w Whole
	var expires, refreshExpires, refresh, refreshed, used, leased *time.Time
	targets, finish := connectionTargets(&w.Connection)
	err := d.pool.QueryRow(ctx, `SELECT `+connectionColumns+`, m.name, coalesce(m.external_id, ''), g.expires_at, g.refresh_expires_at, g.refresh_at,
			g.refreshed_at, g.used_at, g.leased_until, coalesce(k.name, ''), coalesce(g.generation, 0), coalesce(g.epoch, 0), coalesce(g.failures, 0), coalesce(g.refresh_fixed, false)
		FROM connections c JOIN merchants m ON m.id = c.merchant_id LEFT JOIN grants g ON g.connection_id = c.id LEFT JOIN api_keys k ON k.id = g.used_by
		WHERE c.id = $1 AND ($2::uuid IS NULL OR c.merchant_id = $2)`, id, nullID(merchant)).
		Scan(append(targets, &w.Merchant, &w.ExternalID, &expires, &refreshExpires, &refresh, &refreshed, &used, &leased, &w.UsedBy,
			&w.Generation, &w.Epoch, &w.Failures, &w.RefreshFixed)...)
	if err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return w, ErrNotFound
		}
		return w, fmt.Errorf("read connection: %w", err)
	}
	w.ExpiresAt, w.RefreshExpiresAt, w.RefreshAt = timeOrZero(expires), timeOrZero(refreshExpires), timeOrZero(refresh)
	w.RefreshedAt, w.UsedAt, w.LeasedUntil = timeOrZero(refreshed), timeOrZero(used), timeOrZero(leased)
	return w, finish()
}
