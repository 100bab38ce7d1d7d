package pg

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Limit lets Burst things happen at once and afterwards one in each Every.
type Limit struct {
	Burst int
	Every time.Duration
}

// Wait takes the next turn under a key and returns how long until it comes: zero within the burst. If that is longer than
// maxWait, no turn is taken and ok is false; wait then is how long until one can be had. This is GCRA, by one upsert that all
// processes share.
func (d *DB) Wait(ctx context.Context, key string, l Limit, maxWait time.Duration) (wait time.Duration, ok bool, err error) {
	sum := sha256.Sum256([]byte(key))
	now := d.Now()
	burst := time.Duration(l.Burst-1) * l.Every
	var arrival time.Time                                                                 // when the turn is due without the burst
	for again := true; again; again = errors.Is(err, pgx.ErrNoRows) && ctx.Err() == nil { // reset between the two halves of the statement
		err = d.Pool.QueryRow(ctx, `
		WITH taken AS (
			INSERT INTO rate_limits AS l (key, arrival_at) VALUES ($1, $2::timestamptz + $3::interval)
			ON CONFLICT (key) DO UPDATE SET arrival_at = greatest(l.arrival_at, $2) + $3 WHERE l.arrival_at <= $2::timestamptz + $4::interval
			RETURNING arrival_at)
		SELECT true, arrival_at - $3::interval FROM taken
		UNION ALL
		SELECT false, arrival_at FROM rate_limits WHERE key = $1 AND NOT EXISTS (SELECT FROM taken)
		LIMIT 1`, sum[:], now, l.Every, burst+maxWait).Scan(&ok, &arrival)
	}
	if err != nil {
		return 0, false, fmt.Errorf("take a turn under a limit: %w", err)
	}
	wait = max(0, arrival.Sub(now)-burst)
	if !ok {
		wait = max(time.Second, wait-maxWait)
	}
	return wait, ok, nil
}

// Allow returns zero when a thing may happen now, else how long to wait before asking again.
func (d *DB) Allow(ctx context.Context, key string, l Limit) (wait time.Duration, err error) {
	wait, ok, err := d.Wait(ctx, key, l, 0)
	if ok {
		wait = 0
	}
	return wait, err
}

// Exhausted returns how long until Allow would let a thing happen, zero for at once. It counts nothing.
func (d *DB) Exhausted(ctx context.Context, key string, l Limit) (wait time.Duration, err error) {
	sum := sha256.Sum256([]byte(key))
	arrivals, err := Collect(ctx, d.Pool, "look at a limit", pgx.RowTo[time.Time], `SELECT arrival_at FROM rate_limits WHERE key = $1`, sum[:])
	if err != nil || len(arrivals) == 0 {
		return 0, err
	}
	return max(0, arrivals[0].Sub(d.Now())-time.Duration(l.Burst-1)*l.Every), nil
}

// ResetLimit forgets what was counted under a key.
func (d *DB) ResetLimit(ctx context.Context, key string) error {
	sum := sha256.Sum256([]byte(key))
	_, err := Exec(ctx, d.Pool, "reset a limit", `DELETE FROM rate_limits WHERE key = $1`, sum[:])
	return err
}
