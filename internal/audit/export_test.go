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
	sql, args := f.statement(pg.Cursor{}, time.Time{}, l.db.Now().Add(time.Hour), 50)
	lines, err := pg.Collect(ctx, l.db.Pool, "explain", pgx.RowTo[string], `EXPLAIN (ANALYZE, BUFFERS) `+sql, append([]any{pg.PlanWithArguments}, args...)...)
	return strings.Join(lines, "\n"), err
}
