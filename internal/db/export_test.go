package db

import (
	"context"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/connectors"
)

// SearchText is what a connection to an account is found by.
func SearchText(a connectors.Account) string { return searchText(a) }

// FirstByWeeks is the first page of a search as it is gathered from the latest weeks alone, whatever would be quicker,
// and which weeks those are.
func (d *DB) FirstByWeeks(ctx context.Context, f Filter, limit int) (ids []ID, weeks string, err error) {
	err = d.read(ctx, func(tx pgx.Tx) error {
		l, err := d.newList(ctx, tx, f)
		if err != nil {
			return err
		}
		l.limit = limit
		if err := l.choose(ctx); err != nil {
			return err
		}
		if err := l.findWeeks(ctx); err != nil {
			return err
		}
		weeks = l.weeks
		rows, err := tx.Query(ctx, `SELECT f.id FROM finds f WHERE `+l.like()+` ORDER BY f.connected_at DESC, f.id DESC LIMIT `+l.arg(limit), l.args...)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[ID])
		return err
	})
	return ids, weeks, err
}
