package jobs

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// MailKind is the kind of jobs that send mail.
const MailKind = "mail"

// Backlog is the jobs of one kind that were not done: given up within the last week, or still waiting because a try failed or
// they are over a minute late.
type Backlog struct {
	Kind    string
	GivenUp bool
	Jobs    int64
	Oldest  time.Time // when the oldest was enqueued
	Reason  string    // why the last try failed; "" before one has
}

// Backlogs returns the backlogs that there are.
func (j *Jobs) Backlogs(ctx context.Context) ([]Backlog, error) {
	return pg.Collect(ctx, j.DB.Pool, "read what jobs wait", pgx.RowToStructByPos[Backlog], `
		SELECT kind, state = 'discarded', count(*), min(created_at),
			coalesce((array_agg(errors[cardinality(errors)]->>'error' ORDER BY attempted_at DESC) FILTER (WHERE cardinality(errors) > 0))[1], '')
		FROM river_job
		WHERE state = 'discarded'
			OR state IN ('available', 'pending', 'retryable', 'running', 'scheduled')
				AND (cardinality(errors) > 0 OR state <> 'running' AND scheduled_at < now() - interval '1 minute')
		GROUP BY 1, 2 ORDER BY 1, 2`)
}

// mostRetried is how many letters are tried again at once.
const mostRetried = 1000

// RetryMail has letters that wait or were given up tried at once, the oldest first, and returns how many. One with a link gets
// a new one, and one whose reason has gone is not sent.
func (j *Jobs) RetryMail(ctx context.Context, by audit.Actor) (letters int, err error) {
	err = j.DB.Tx(ctx, func(tx pgx.Tx) error {
		ids, err := pg.Collect(ctx, tx, "read what letters wait", pgx.RowTo[int64], `
			SELECT id FROM river_job WHERE kind = $1 AND state IN ('discarded', 'retryable') ORDER BY id LIMIT $2`, MailKind, mostRetried)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if _, err := j.client.JobRetryTx(ctx, tx, id); err != nil {
				return fmt.Errorf("retry a letter: %w", err)
			}
		}
		letters = len(ids)
		return j.DB.Audit.Add(ctx, tx, audit.Event{Kind: status.MailRetried, Actor: by, Note: strconv.Itoa(letters)})
	})
	return letters, err
}
