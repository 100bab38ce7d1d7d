package audit

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// Explain returns the plan of a filter's first page over all the time there is.
func (l *Log) Explain(ctx context.Context, f Filter) (plan string, err error) {
	err = l.read(ctx, func(tx pgx.Tx) error {
		sql, args := f.statement(cursor{}, time.Time{}, l.db.Now().Add(time.Hour), 50)
		lines, err := pg.Collect(ctx, tx, "explain", pgx.RowTo[string], `EXPLAIN (ANALYZE, BUFFERS) `+sql, args...)
		plan = strings.Join(lines, "\n")
		return err
	})
	return plan, err
}
