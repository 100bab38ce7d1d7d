package refresh

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// After a revocation notice, the connection is refreshed at these times.
var recheckAfter = [...]time.Duration{0, time.Minute, 10 * time.Minute, time.Hour}

// RecheckAccount takes a provider's notice that access to an account has ended: every live connection of the account, of any
// merchant, is refreshed at once and again after 1, 10 and 60 minutes, at most once a minute. No problem is written before the
// provider itself has refused.
func (e *Engine) RecheckAccount(ctx context.Context, provider, account string) error {
	q := e.queues[provider]
	if q == nil {
		return nil
	}
	now := e.DB.Now()
	type noticed struct {
		Connection, Merchant pg.ID
		Again                bool // noticed less than a minute ago
	}
	err := e.DB.Tx(ctx, func(tx pgx.Tx) error {
		// One at a time, in one order: the second sees what the first wrote.
		if _, err := tx.Exec(ctx, `SELECT FROM connections WHERE provider = $1 AND environment = $2 AND account_id = $3 AND disconnected_at IS NULL
			ORDER BY id FOR NO KEY UPDATE`, q.info.Name, q.info.Environment, account); err != nil {
			return err
		}
		all, err := pg.Collect(ctx, tx, "read connections", pgx.RowToStructByPos[noticed], `
			WITH named AS (
				SELECT c.id, c.merchant_id, c.provider, c.environment, coalesce(v.notified_at > $4::timestamptz - interval '1 minute', false) AS again
				FROM connections c LEFT JOIN rechecks v ON v.connection_id = c.id
				WHERE c.provider = $1 AND c.environment = $2 AND c.account_id = $3 AND c.disconnected_at IS NULL
			), kept AS (
				INSERT INTO rechecks (connection_id, provider, environment, done, due_at, notified_at)
				SELECT id, provider, environment, 0, $4, $4 FROM named
				ON CONFLICT (connection_id) DO UPDATE SET done = 0, notified_at = excluded.notified_at, due_at = greatest(excluded.due_at, rechecks.checked_at + interval '1 minute')
			) SELECT id, merchant_id, again FROM named`, q.info.Name, q.info.Environment, account, now)
		if err != nil {
			return err
		}
		var b pgx.Batch
		for _, one := range all {
			if !one.Again {
				e.DB.Audit.Queue(&b, audit.Event{
					Kind: status.ConnectionRevocationNoticed, Actor: providerActor, MerchantID: one.Merchant, ConnectionID: one.Connection, Provider: provider,
				})
			}
		}
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return fmt.Errorf("write down a revocation notice: %w", err)
	}
	return nil
}

// providerActor is a provider that sent a notice.
var providerActor = audit.Actor{Role: audit.RoleProvider}

// recheck begins the rechecks that are due at a provider and returns how many they are.
func (e *Engine) recheck(ctx context.Context, q *providerQueue) (int, error) {
	ids, err := q.dueRechecks(ctx)
	for _, id := range ids {
		e.underway.Go(func() {
			if _, err := e.RefreshNow(e.ctx, id, providerActor); err != nil {
				e.Log.Warn("an account was not rechecked", "connection", id, "err", err)
			}
		})
	}
	return len(ids), err
}

// dueRechecks takes the connections whose recheck is due, so that no other process does. Those of other environments wait, and those
// whose grant another key sealed wait for a process that has it.
func (q *providerQueue) dueRechecks(ctx context.Context) ([]pg.ID, error) {
	return pg.Collect(ctx, q.db.Pool, "take rechecks", pgx.RowTo[pg.ID], `
		UPDATE rechecks v SET done = v.done + 1, checked_at = $3,
			due_at = CASE WHEN v.done + 1 < $4 THEN greatest(v.notified_at + ($5::interval[])[v.done + 2], $3 + interval '1 minute') END
		WHERE v.connection_id = ANY (ARRAY(
			SELECT connection_id FROM rechecks r WHERE provider = $1 AND environment = $2 AND due_at <= $3
				AND NOT EXISTS (SELECT FROM grants g WHERE g.connection_id = r.connection_id AND `+keyring.UnknownSeal("g.sealed", "$7")+`)
			ORDER BY due_at LIMIT $6 FOR UPDATE SKIP LOCKED))
		RETURNING v.connection_id`, q.info.Name, q.info.Environment, q.db.Now(), len(recheckAfter), recheckAfter[:], q.limit, q.db.KnownKeys())
}

// revocationNoticed says whether the provider has sent a notice in the last two hours that access to a connection's account ended.
func (q *providerQueue) revocationNoticed(ctx context.Context, connection pg.ID) (bool, error) {
	return pg.One(ctx, q.db.Pool, "read revocation notices", pgx.RowTo[bool],
		`SELECT EXISTS (SELECT FROM rechecks WHERE connection_id = $1 AND notified_at > $2)`, connection, q.db.Now().Add(-2*time.Hour))
}
