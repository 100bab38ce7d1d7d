package db

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// ErrKeyHeld is returned for a key that is to be given up although a process has it.
var ErrKeyHeld = errors.New("a process that has this key served within the last hour")

// AbandonKey gives up the grants that a lost key has sealed, and returns how many: their merchants are asked to reconnect. It returns ErrKeyHeld
// if the keyset has the key, or a process that has it served within an hour.
func (d *DB) AbandonKey(ctx context.Context, key uint32) (all int64, err error) {
	held, err := d.KeyHeld(ctx, key)
	if err == nil && (held || d.Keyset.Has(key)) {
		err = ErrKeyHeld
	}
	for n := 1; err == nil && n > 0; all += int64(n) {
		err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
			n, err = d.abandonKey(ctx, tx, key)
			return err
		})
	}
	return all, err
}

func (d *DB) abandonKey(ctx context.Context, tx pgx.Tx, key uint32) (int, error) {
	lost, err := pg.Collect(ctx, tx, "read grants", scanConnection, `SELECT `+connectionColumns+` FROM connections c JOIN grants g ON g.connection_id = c.id
		WHERE `+keyring.SealedBy("g.sealed", "$1")+` ORDER BY c.id LIMIT 200 FOR UPDATE`, keyring.Prefixes([]uint32{key}))
	if err != nil || len(lost) == 0 {
		return 0, err
	}
	ids := make([]pg.ID, len(lost))
	b := &pgx.Batch{}
	for i, c := range lost {
		ids[i] = c.ID
		d.Audit.Queue(b, audit.Event{
			Kind: status.KindOfFailure(status.Rejected), Actor: audit.System, MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider, Outcome: status.Rejected,
			Code: string(status.ProblemSealed), Note: status.NoteSealed,
		})
	}
	b.Queue(`UPDATE grants SET sealed = NULL, late_grant = NULL, late_generation = 0, lease_id = NULL, leased_until = NULL, refresh_at = NULL, attempts = attempts + 1,
		last_outcome = $2, last_code = $3 WHERE connection_id = ANY ($1)`, ids, status.Rejected, status.ProblemSealed)
	b.Queue(`UPDATE connections SET problem = $2, problem_since = $3, failing_since = coalesce(failing_since, $3) WHERE id = ANY ($1) AND disconnected_at IS NULL`, ids, status.ProblemInterrupted, d.Now())
	return len(lost), tx.SendBatch(ctx, b).Close()
}
