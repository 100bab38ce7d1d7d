package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// errProven rolls a proof back.
var errProven = errors.New("proven")

// ProveWrites writes a merchant, a connection and its grant as connecting does, has save write what a refresh does, reads the grant
// back, and rolls all of it back. It returns an error if any of that fails: a provider's answer would then be lost.
func (d *DB) ProveWrites(ctx context.Context, save func(tx pgx.Tx, c Connection) error) error {
	err := d.Tx(ctx, func(tx pgx.Tx) error {
		m, err := d.addMerchant(ctx, tx, audit.System, Merchant{Name: "Patchbay"})
		if err != nil {
			return err
		}
		now := d.Now()
		c := Connection{ID: pg.NewID(), MerchantID: m.ID, Provider: "patchbay", Environment: "sandbox", ConnectedAt: now}
		c.Account = connectors.Account{ID: c.ID.String(), Name: m.Name, Details: []connectors.Detail{{Key: "name", Value: m.Name}}}
		b := &pgx.Batch{}
		if err := queueConnection(b, c); err != nil {
			return err
		}
		if err := d.queueGrant(b, c, connectors.Grant{Account: c.Account}, before{}, now, connectors.Info{}); err != nil {
			return err
		}
		d.Audit.Queue(b, audit.Event{Kind: status.ConnectionConnected, MerchantID: m.ID, ConnectionID: c.ID, Provider: c.Provider})
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		if err := save(tx, c); err != nil {
			return err
		}
		var sealed []byte
		var generation int64
		if err := tx.QueryRow(ctx, `SELECT sealed, generation FROM grants WHERE connection_id = $1`, c.ID).Scan(&sealed, &generation); err != nil {
			return err
		}
		if _, err := d.OpenGrant(sealed, GrantPlace(c.ID, c.MerchantID, generation)); err != nil {
			return err
		}
		return errProven
	})
	if errors.Is(err, errProven) {
		return nil
	}
	return fmt.Errorf("what Patchbay saves cannot be written: %w", err)
}
