package notify

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// noticeInterval is how long admins are not mailed about the same thing again, whatever becomes of it.
const noticeInterval = 24 * time.Hour

// EnqueueNotices enqueues the mails to admins that are due and returns how many: that an incident has begun or ended, and that
// connections wait for the platform to put something right. Each is mailed once, however many connections it is about.
func EnqueueNotices(ctx context.Context, d *pg.DB, providers status.Providers, queue Queue) (mails int, err error) {
	now := d.Now()
	err = d.Tx(ctx, func(tx pgx.Tx) error {
		if _, err := pg.Exec(ctx, tx, "lock warnings", `SELECT pg_advisory_xact_lock(hashtextextended('warnings', 0))`); err != nil {
			return err
		}
		due, err := incidentNotices(ctx, tx, providers, now)
		if err != nil {
			return err
		}
		problems, err := problemNotices(ctx, tx, providers, now)
		if err != nil {
			return err
		}
		due = append(due, problems...)
		if _, err := pg.Exec(ctx, tx, "drop old notices", `DELETE FROM notices WHERE NOT open AND mailed_at < $1`, now.Add(-noticeInterval)); err != nil {
			return err
		}
		for _, m := range due {
			n, err := toAdmins(ctx, tx, m, queue)
			if err != nil {
				return err
			}
			mails += n
		}
		return nil
	})
	return mails, err
}

func incidentNotices(ctx context.Context, tx pgx.Tx, providers status.Providers, now time.Time) (due []Mail, err error) {
	type incident struct {
		Name, Environment string
		Since             time.Time
		Reason            status.Reason
	}
	all, err := pg.Collect(ctx, tx, "read incidents", pgx.RowToStructByPos[incident],
		`SELECT name, environment, incident_since, incident_reason FROM providers WHERE incident_since IS NOT NULL ORDER BY name, environment`)
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		if !providers.Present(one.Name, one.Environment) {
			continue
		}
		added, err := addNotice(ctx, tx, MailIncident, one.Name+" "+one.Environment, one.Since, now, true, `n.since <> excluded.since`)
		if err != nil {
			return nil, err
		}
		if added {
			due = append(due, Mail{Kind: MailIncident, Provider: one.Name, Environment: one.Environment, Code: string(one.Reason), Since: one.Since, At: now})
		}
	}
	type ended struct {
		About     string
		Since, At time.Time
	}
	over, err := pg.Collect(ctx, tx, "find incidents that ended", pgx.RowToStructByPos[ended], `
		UPDATE notices n SET open = false
		WHERE kind = $1 AND open AND NOT EXISTS (SELECT FROM providers p WHERE p.name || ' ' || p.environment = n.about AND p.incident_since = n.since)
		RETURNING n.about, n.since, coalesce((SELECT p.incident_ended_at FROM providers p WHERE p.name || ' ' || p.environment = n.about), $2)`, MailIncident, now)
	for _, one := range over {
		name, environment, _ := strings.Cut(one.About, " ")
		due = append(due, Mail{Kind: MailIncidentEnded, Provider: name, Environment: environment, Since: one.Since, At: one.At})
	}
	return due, err
}

func problemNotices(ctx context.Context, tx pgx.Tx, providers status.Providers, now time.Time) (due []Mail, err error) {
	type problem struct {
		Provider, Environment string
		Problem               status.Problem
		Connections           int
		Since                 time.Time
	}
	_, behind := status.ActionNeeded.Orders()
	all, err := pg.Collect(ctx, tx, "find problems of the platform", pgx.RowToStructByPos[problem], `
		SELECT c.provider, c.environment, c.problem, count(*), min(c.problem_since) FROM connections c
		WHERE c.problem = ANY($1) AND c.disconnected_at IS NULL AND c.health_order < $2 -- the same condition, with an index
			AND NOT EXISTS (SELECT FROM providers p WHERE p.name = c.provider AND p.environment = c.environment AND p.incident_since IS NOT NULL)
		GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`, status.StoredProblemsOf(status.PartyPlatform), behind)
	if err != nil {
		return nil, err
	}
	lasting := []string{}
	for _, one := range all {
		if !providers.Present(one.Provider, one.Environment) || one.Since.After(now.Add(-gatherFor)) {
			continue
		}
		about := strings.Join([]string{one.Provider, one.Environment, string(one.Problem)}, " ")
		lasting = append(lasting, about)
		added, err := addNotice(ctx, tx, MailPlatformActionNeeded, about, one.Since, now, true, `NOT n.open`)
		if err != nil {
			return nil, err
		}
		if added {
			due = append(due, Mail{Kind: MailPlatformActionNeeded, Provider: one.Provider, Environment: one.Environment, Code: string(one.Problem), Count: one.Connections, Since: one.Since, At: now})
		}
	}
	_, err = pg.Exec(ctx, tx, "note what was put right", `UPDATE notices SET open = false WHERE kind = $1 AND open AND about <> ALL($2)`, MailPlatformActionNeeded, lasting)
	return due, err
}

// WebhookOff enqueues the mails to admins that an endpoint was switched off, unless they were mailed about it within a day.
func WebhookOff(ctx context.Context, tx pgx.Tx, now time.Time, endpoint pg.ID, queue Queue) error {
	added, err := addNotice(ctx, tx, MailWebhookOff, endpoint.String(), now, now, false, `true`)
	if err != nil || !added {
		return err
	}
	_, err = toAdmins(ctx, tx, Mail{Kind: MailWebhookOff, Endpoint: endpoint}, queue)
	return err
}

// addNotice stores that admins are mailed now about something that began at since, and reports whether they are to be: at most once in
// noticeInterval and, if they were mailed about it before, only if again holds, which is SQL over that notice n. An open notice is kept
// until what it is about has ended.
func addNotice(ctx context.Context, tx pgx.Tx, kind MailKind, about string, since, now time.Time, open bool, again string) (added bool, err error) {
	n, err := pg.Exec(ctx, tx, "add notice", `
		INSERT INTO notices AS n (kind, about, since, mailed_at, open) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (kind, about) DO UPDATE SET since = excluded.since, mailed_at = excluded.mailed_at, open = excluded.open
		WHERE n.mailed_at <= $6 AND `+again, kind, about, since, now, open, now.Add(-noticeInterval))
	return n > 0, err
}
