package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/restore"
	"patchbay/internal/status"
)

const (
	gatherFor     = 5 * time.Minute     // connections of a merchant that fail within this time share one mail
	maxProblemAge = 14 * 24 * time.Hour // no mail about an older problem, such as one from before mail was set up
)

// EnqueueWarnings enqueues the mails that are due and returns how many: to users whose connections need them to act, once for each
// problem and never during an incident of the provider, and once for all that a restore of the database has interrupted; to users whose
// access ends within status.Reminder; and to users who were warned of a connection that is fine again.
func EnqueueWarnings(ctx context.Context, d *pg.DB, providers status.Providers, queue Queue) (mails int, err error) {
	now := d.Now()
	var names, environments []string
	for name, p := range providers {
		if p.SetUp {
			names, environments = append(names, name), append(environments, p.Environment)
		}
	}
	ending, endingIn := providers.Reconnecting()
	last, err := restore.Last(ctx, d.Pool)
	if err != nil {
		return 0, err
	}
	restored := now // without a restore nothing is since
	if last.Lost() {
		restored = last.At
	}
	err = d.Tx(ctx, func(tx pgx.Tx) error {
		if _, err := pg.Exec(ctx, tx, "lock warnings", `SELECT pg_advisory_xact_lock(hashtextextended('warnings', 0))`); err != nil {
			return err
		}
		for _, due := range []struct {
			kind MailKind
			sql  string
			args []any
		}{
			// One mail names all at once; what a provider rejects later is on the page that it leads to.
			{MailRestored, `
				WITH lost AS (
					SELECT c.id, u.id AS user_id, c.problem_since
					FROM connections c JOIN grants g ON g.connection_id = c.id
						` + joinMailable + `
					WHERE c.problem = $2 AND c.disconnected_at IS NULL AND c.problem_since >= $3 AND g.refreshed_at < $3
						AND c.health_order BETWEEN $4 AND $5 -- not older than maxProblemAge, with an index
						AND (c.provider, c.environment) IN (SELECT * FROM unnest($6::text[], $7::text[]))
						AND NOT EXISTS (SELECT FROM warnings o WHERE o.connection_id = c.id AND o.user_id = u.id AND o.kind = $8 AND o.warned_at > c.problem_since)
				), earlier AS (
					SELECT DISTINCT user_id FROM warnings WHERE kind = $8 AND about = $3
				), warned AS (
					` + insertWarnings + ` SELECT id, user_id, $8, $3, $1 FROM lost
					WHERE user_id IN (SELECT user_id FROM earlier) OR user_id IN (SELECT user_id FROM lost WHERE problem_since < $9)
					` + replaceWarnings + `
					RETURNING connection_id, user_id
				)
				SELECT connection_id, user_id FROM warned WHERE user_id NOT IN (SELECT user_id FROM earlier)`, []any{
				now, status.ProblemInterrupted, restored, neededSince(now), neededSince(now.Add(-maxProblemAge)) + 1, names, environments, MailRestored, now.Add(-gatherFor),
			}},
			{MailActionNeeded, `
				` + insertWarnings + ` SELECT c.id, u.id, $9, c.problem_since, $1
				FROM connections c ` + joinMailable + `
				WHERE c.problem = ANY($2) AND c.disconnected_at IS NULL AND c.problem_since < $3 AND c.problem_since > $4
					AND c.health_order BETWEEN $5 AND $6 -- the same condition, with an index
					AND (c.provider, c.environment) IN (SELECT * FROM unnest($7::text[], $8::text[]))
					AND NOT EXISTS (SELECT FROM warnings o WHERE o.connection_id = c.id AND o.user_id = u.id AND o.kind = $9 AND o.about = c.problem_since)
					AND NOT EXISTS (SELECT FROM warnings o WHERE o.connection_id = c.id AND o.user_id = u.id AND o.kind = $10 AND o.warned_at > c.problem_since)
					AND NOT (c.problem = $11 AND c.problem_since >= $12 AND EXISTS (SELECT FROM grants g WHERE g.connection_id = c.id AND g.refreshed_at < $12))
					AND NOT EXISTS (SELECT FROM providers p WHERE p.name = c.provider AND p.environment = c.environment AND p.incident_since IS NOT NULL)
				` + replaceWarnings + ` WHERE w.about <> excluded.about
				RETURNING connection_id, user_id`, []any{
				now, status.StoredProblemsOf(status.PartyMerchant), now.Add(-gatherFor), now.Add(-maxProblemAge),
				neededSince(now.Add(-gatherFor)), neededSince(now.Add(-maxProblemAge)) + 1, names, environments, MailActionNeeded, MailRestored, status.ProblemInterrupted, restored,
			}},
			// Only where refreshing does not move the date.
			{MailReconnectBy, `
				` + insertWarnings + ` SELECT c.id, u.id, $5, g.refresh_expires_at, $1
				FROM grants g JOIN connections c ON c.id = g.connection_id
					` + joinMailable + `
				WHERE ` + status.MustReconnect("$1", "$2", "$3", "$4") + `
				` + replaceWarnings + ` WHERE w.about < $1
				RETURNING connection_id, user_id`, []any{now, now.Add(status.Reminder), ending, endingIn, MailReconnectBy}},
			{MailBackToNormal, `
				DELETE FROM warnings w USING connections c
				WHERE w.connection_id = c.id AND w.kind = $1 AND c.problem = '' AND c.failing_since IS NULL AND c.disconnected_at IS NULL
				RETURNING w.connection_id, w.user_id`, []any{MailActionNeeded}},
		} {
			type warned struct{ Connection, User pg.ID }
			all, err := pg.Collect(ctx, tx, "find users due "+string(due.kind), pgx.RowToStructByPos[warned], due.sql, due.args...)
			if err != nil {
				return err
			}
			var order []pg.ID
			of := map[pg.ID][]pg.ID{}
			for _, w := range all {
				if of[w.User] == nil {
					order = append(order, w.User)
				}
				of[w.User] = append(of[w.User], w.Connection)
			}
			for _, user := range order {
				if err := queue.EnqueueMail(ctx, tx, Mail{Kind: due.kind, User: user, Connections: of[user]}); err != nil {
					return fmt.Errorf("enqueue %s: %w", due.kind, err)
				}
			}
			mails += len(order)
		}
		_, err := pg.Exec(ctx, tx, "drop old warnings", `
			DELETE FROM warnings w USING connections c
			WHERE w.connection_id = c.id AND (w.kind <> $4 AND c.disconnected_at IS NOT NULL OR w.kind = $2 AND w.about < $1 OR w.kind = $4 AND w.about < $3)`,
			now.Add(-status.Reminder), MailReconnectBy, now.Add(-2*maxProblemAge), MailRestored)
		return err
	})
	return mails, err
}

// The beginning of a statement that adds warnings, or replaces earlier ones, and what follows its rows.
const (
	insertWarnings  = `INSERT INTO warnings AS w (connection_id, user_id, kind, about, warned_at)`
	replaceWarnings = `ON CONFLICT (connection_id, user_id, kind) DO UPDATE SET about = excluded.about, warned_at = excluded.warned_at`
)

// joinMailable joins the users of a connection c who can be mailed.
const joinMailable = `JOIN users u ON u.merchant_id = c.merchant_id AND ` + Mailable

// neededSince is the health_order of connections that have needed a person to act since t: see that column.
func neededSince(t time.Time) int64 {
	return status.ActionNeeded.Order(t) - 1
}

// ClearWarnings deletes a user's warnings of connections, so that the next problem of one is mailed again.
func ClearWarnings(ctx context.Context, q pg.Querier, user pg.ID, connections []pg.ID) error {
	_, err := pg.Exec(ctx, q, "clear warnings", `DELETE FROM warnings WHERE user_id = $1 AND connection_id = ANY($2)`, user, connections)
	return err
}
