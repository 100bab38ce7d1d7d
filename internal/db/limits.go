package db

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

// Reserve takes the next place under a key and says how long to wait until its turn: zero within the burst. When that
// were over patience no place is taken and ok is false; wait then says how long until one can be had. (GCRA, by one
// upsert that all processes share.)
func (d *DB) Reserve(ctx context.Context, key string, l Limit, patience time.Duration) (wait time.Duration, ok bool, err error) {
	sum := sha256.Sum256([]byte(key))
	now := d.Now()
	slack := time.Duration(l.Burst-1) * l.Every
	var before time.Time                                                                  // when the next place would have been due, had nobody saved up
	for again := true; again; again = errors.Is(err, pgx.ErrNoRows) && ctx.Err() == nil { // gone between the two: it was forgiven meanwhile
		err = d.pool.QueryRow(ctx, `
		WITH taken AS (
			INSERT INTO limits AS l (key, tat) VALUES ($1, $2::timestamptz + $3::interval)
			ON CONFLICT (key) DO UPDATE SET tat = greatest(l.tat, $2) + $3 WHERE l.tat <= $2::timestamptz + $4::interval
			RETURNING tat)
		SELECT true, tat - $3::interval FROM taken
		UNION ALL
		SELECT false, tat FROM limits WHERE key = $1 AND NOT EXISTS (SELECT FROM taken)
		LIMIT 1`, sum[:], now, l.Every, slack+patience).Scan(&ok, &before)
	}
	if err != nil {
		return 0, false, fmt.Errorf("reserve under a limit: %w", err)
	}
	wait = max(0, before.Sub(now)-slack)
	if !ok {
		wait = max(time.Second, wait-patience)
	}
	return wait, ok, nil
}

// Allow is Reserve without patience: zero when it may happen now, else how long to wait before asking again.
func (d *DB) Allow(ctx context.Context, key string, l Limit) (wait time.Duration, err error) {
	wait, ok, err := d.Reserve(ctx, key, l, 0)
	if ok {
		wait = 0
	}
	return wait, err
}

// Forgive empties what was counted under a key.
func (d *DB) Forgive(ctx context.Context, key string) error {
	sum := sha256.Sum256([]byte(key))
	if _, err := d.pool.Exec(ctx, `DELETE FROM limits WHERE key = $1`, sum[:]); err != nil {
		return fmt.Errorf("forgive a limit: %w", err)
	}
	return nil
}
