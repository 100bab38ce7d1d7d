package db

import (
	"context"
	"strings"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// FirstByWeeks is the first page of a search as it is gathered from the latest weeks alone, whatever would be quicker,
// and which weeks those are.
func (d *DB) FirstByWeeks(ctx context.Context, f Filter, limit int) (ids []pg.ID, weeks string, err error) {
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
		ids, err = pgx.CollectRows(rows, pgx.RowTo[pg.ID])
		return err
	})
	return ids, weeks, err
}

// Explain returns the plans of a first page's statements.
func (d *DB) Explain(ctx context.Context, f Filter) (plans string, err error) {
	err = d.read(ctx, func(tx pgx.Tx) error {
		l, err := d.newList(ctx, tx, f)
		if err != nil {
			return err
		}
		l.limit = 50
		if _, err := l.enter(ctx); err != nil {
			return err
		}
		ids, err := l.ids(ctx)
		if err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `EXPLAIN (ANALYZE, BUFFERS) `+ids, l.args...)
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plans = strings.Join(lines, "\n")
		return err
	})
	return plans, err
}
