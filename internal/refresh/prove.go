package refresh

import (
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// ProveSaves returns an error unless a connection can be made and its refreshed grant be saved, in a transaction that is rolled
// back. Nothing is to be sent to a provider while its answer could not be kept.
func ProveSaves(ctx context.Context, d *db.DB) error {
	return d.ProveWrites(ctx, func(tx pgx.Tx, c db.Connection) error {
		sealed, err := d.SealGrant(connectors.Grant{Account: c.Account}, db.GrantPlace(c.ID, 2))
		if err != nil {
			return err
		}
		now := d.Now()
		l := &lease{ID: pg.NewID(), Connection: c.ID, Merchant: c.MerchantID, Provider: c.Provider, Environment: c.Environment, Generation: 1, ConnectionVersion: 1}
		s := &save{lease: l, event: l.event(status.RefreshSaved, status.OK, attemptInfo{By: audit.System}), row: savedGrant{
			Connection: l.Connection, Lease: l.ID, Generation: l.Generation, ConnectionVersion: l.ConnectionVersion, Sealed: sealed, Expires: now, RefreshAt: now, Obtained: now,
		}}
		var landed []pg.ID
		b := &pgx.Batch{}
		q := &providerQueue{db: d, info: connectors.Info{Name: c.Provider}}
		q.queueSaves(b, []*save{s}, func(connections []pg.ID) { landed = connections })
		if err := tx.SendBatch(ctx, b).Close(); err != nil {
			return err
		}
		if !slices.Equal(landed, []pg.ID{c.ID}) {
			return errors.New("a save found no grant")
		}
		return nil
	})
}
