package db

import (
	"context"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// AddTrialConnection writes a merchant, a connection and its grant as connecting does, in a transaction that the caller rolls back: it
// shows that such rows can be written.
func (d *DB) AddTrialConnection(ctx context.Context, tx pgx.Tx) (Connection, error) {
	m, err := d.addMerchant(ctx, tx, audit.System, Merchant{Name: "Patchbay"})
	if err != nil {
		return Connection{}, err
	}
	now := d.Now()
	c := Connection{ID: pg.NewID(), MerchantID: m.ID, Provider: "patchbay", Environment: "sandbox", ConnectedAt: now}
	c.Account = connectors.Account{ID: c.ID.String(), Name: m.Name, Details: []connectors.Detail{{Key: "name", Value: m.Name}}}
	b := &pgx.Batch{}
	if err := queueConnection(b, c); err != nil {
		return c, err
	}
	if err := d.queueGrant(b, c, connectors.Grant{Account: c.Account}, priorGrant{}, now, connectors.Info{}); err != nil {
		return c, err
	}
	d.Audit.Queue(b, audit.Event{Kind: status.ConnectionConnected, MerchantID: m.ID, ConnectionID: c.ID, Provider: c.Provider})
	return c, tx.SendBatch(ctx, b).Close()
}
