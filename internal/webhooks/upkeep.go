package webhooks

import (
	"context"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// reminders are how many days before its end a connection is announced to expire, the later one first.
var reminders = []int{2, 7}

// remind adds an event for each connection whose access ends so soon, however often it is refreshed.
func (w *Webhooks) remind(ctx context.Context) error {
	now := w.DB.Now()
	names, environments := w.Providers.Reconnecting()
	return w.DB.Tx(ctx, func(tx pgx.Tx) error {
		from := now
		for _, days := range reminders {
			to := now.AddDate(0, 0, days)
			_, err := pg.Exec(ctx, tx, "announce what expires", `
				WITH due AS (
					INSERT INTO webhook_reminders AS r (connection_id, days, about)
					SELECT g.connection_id, $1, g.refresh_expires_at FROM grants g JOIN connections c ON c.id = g.connection_id
					WHERE `+status.MustReconnect("$2", "$3", "$5", "$6")+` AND EXISTS (SELECT FROM webhook_endpoints)
					ON CONFLICT (connection_id, days) DO UPDATE SET about = excluded.about WHERE r.about < $4
					RETURNING connection_id
				)
				SELECT webhook_add('connection.expiring', $4, c.merchant_id, c.id, webhook_state(c)) FROM due JOIN connections c ON c.id = due.connection_id`,
				days, from, to, now, names, environments)
			if err != nil {
				return err
			}
			from = to
		}
		return nil
	})
}

// dropOld deletes what nothing is sent of any more.
func (w *Webhooks) dropOld(ctx context.Context) error {
	now := w.DB.Now()
	// A few at a time, so that no writer waits for the rest.
	if _, err := pg.Exec(ctx, w.DB.Pool, "drop old events", `DELETE FROM webhook_events WHERE id = ANY (ARRAY(SELECT id FROM webhook_events WHERE at < $1 LIMIT 10000))`, now.Add(-retention)); err != nil {
		return err
	}
	_, err := pg.Exec(ctx, w.DB.Pool, "drop old reminders", `DELETE FROM webhook_reminders WHERE about < $1`, now.Add(-retention))
	return err
}
