package refresh

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/restore"
)

// clockStep is how far Postgres's clock must go back between two measurements to be taken for a step. The host's monotonic clock
// carries the time meanwhile.
const clockStep = 2 * time.Second

// restoreCheckEvery is how often a process checks whether the database was restored, or an operator declared it. A rejection checks at once.
const restoreCheckEvery = 5 * time.Second

// watchDatabase measures the database's clock every minute, notes that this process serves, and corrects times that a clock that was ahead
// has written: at the start, and whenever the clock has gone back, as when an operator corrects it or a standby whose clock is behind takes over.
func (e *Engine) watchDatabase(ctx context.Context) {
	behind := true // until that is known
	for {
		expected := e.DB.Now()
		err := e.DB.MeasureClock(ctx)
		if step := e.DB.Now().Sub(expected); err == nil && step < -clockStep {
			e.Log.Warn("the database's clock has gone back", "by", -step)
			behind = true
		}
		if err == nil && behind {
			err = e.correctFutureTimes(ctx)
			behind = err != nil
		}
		if err == nil {
			_, err = e.CheckRestore(ctx)
		}
		if err == nil {
			err = restore.RecordServing(ctx, e.DB.DB)
		}
		if err == nil {
			err = e.DB.NoteKeys(ctx)
		}
		e.warnUnwatched(ctx, err)
		for range int(time.Minute / restoreCheckEvery) {
			if !sleep(ctx, restoreCheckEvery) {
				return
			}
			_, err = e.CheckRestore(ctx)
			e.warnUnwatched(ctx, err)
		}
	}
}

func (e *Engine) warnUnwatched(ctx context.Context, err error) {
	if err != nil && ctx.Err() == nil {
		e.Log.Warn("the database was not watched", "err", err)
	}
}

// correctFutureTimes corrects times that a clock wrote which was ahead and has been put back. A grant that was refreshed in the future may
// have ended already: it is due at once; what nothing renews ends as much earlier as it was refreshed too late. Nothing else waits
// longer than by a right clock.
func (e *Engine) correctFutureTimes(ctx context.Context) error {
	now := e.DB.Now()
	future := now.Add(clockStep)
	var after pg.ID
	for { // in order of the primary key: a condition on refreshed_at has no index, since every refresh would write into it
		type batch struct {
			Last  pg.ID
			Rows  int
			Wrong int
		}
		done, err := pg.One(ctx, e.DB.Pool, "correct the times of grants", func(row pgx.CollectableRow) (b batch, err error) {
			return b, row.Scan(&b.Last, &b.Rows, &b.Wrong)
		}, `
			WITH page AS (
				SELECT connection_id, refreshed_at > $2 AND sealed IS NOT NULL AND lease_id IS NULL AS wrong, leased_until > $4 AS held FROM grants WHERE connection_id > coalesce($3::uuid, '00000000-0000-0000-0000-000000000000'::uuid) ORDER BY connection_id LIMIT 5000
			), corrected AS (
				UPDATE grants g SET
					expires_at = CASE WHEN renewable THEN least(expires_at, $1) ELSE expires_at - (refreshed_at - $1) END,
					refresh_at = CASE WHEN renewable THEN $1 ELSE refresh_at - (refreshed_at - $1) END,
					refresh_expires_at = CASE WHEN refresh_expires_at > refreshed_at THEN refresh_expires_at - (refreshed_at - $1) ELSE refresh_expires_at END,
					refreshed_at = $1
				WHERE connection_id = ANY (ARRAY(
					SELECT g.connection_id FROM grants g JOIN page USING (connection_id) WHERE wrong AND g.refreshed_at > $2 AND g.lease_id IS NULL FOR UPDATE OF g SKIP LOCKED))
				RETURNING 1
			), held AS (
				UPDATE grants g SET leased_until = $4 FROM page WHERE g.connection_id = page.connection_id AND page.held AND g.leased_until > $4
			)
			SELECT max(connection_id::text)::uuid, count(*), (SELECT count(*) FROM corrected) FROM page`, now, future, after, now.Add(e.Term))
		if err != nil {
			return err
		}
		if done.Wrong > 0 {
			e.Log.Warn("grants were refreshed in the future: they are refreshed again", "grants", done.Wrong)
		}
		if done.Rows == 0 {
			break
		}
		after = done.Last
	}
	if _, err := pg.Exec(ctx, e.DB.Pool, "correct the times of providers", `
		UPDATE providers SET incident_ended_at = least(incident_ended_at, $1), next_probe = least(next_probe, $2), paused_until = least(paused_until, $3)
		WHERE incident_ended_at > $1 OR next_probe > $2 OR paused_until > $3`, now, now.Add(probeEveryLater), now.Add(longestPause)); err != nil {
		return err
	}
	_, err := pg.Exec(ctx, e.DB.Pool, "correct the times of slots", `UPDATE provider_slots SET busy_until = $1 WHERE busy_until > $1`, now.Add(e.Term))
	return err
}
