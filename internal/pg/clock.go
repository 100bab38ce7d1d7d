package pg

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// Clock is the clock by which everything is decided: Postgres's, carried between measurements by the host's
// monotonic clock, so that a host whose clock is wrong or jumps renews nothing too early or too late and all
// processes agree. The zero value is the host's own time.
type Clock struct {
	base   atomic.Pointer[measured]
	manual func() time.Time
}

type measured struct{ postgres, host time.Time }

// NewClock returns a clock that asks now, for tests.
func NewClock(now func() time.Time) *Clock { return &Clock{manual: now} }

// Now is the present time in UTC, to the microsecond as Postgres keeps it.
func (c *Clock) Now() time.Time {
	if c.manual != nil {
		return c.manual().UTC().Truncate(time.Microsecond)
	}
	m := c.base.Load()
	if m == nil {
		return time.Now().UTC().Truncate(time.Microsecond)
	}
	return m.postgres.Add(time.Since(m.host)).Truncate(time.Microsecond)
}

// MeasureClock takes the time from Postgres. Half of the time the answer took is added. Called at the start and
// every few minutes.
func (d *DB) MeasureClock(ctx context.Context) error {
	if d.Clock.manual != nil {
		return nil
	}
	before := time.Now()
	var postgres time.Time
	if err := d.Pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&postgres); err != nil {
		return fmt.Errorf("ask Postgres for the time: %w", err)
	}
	after := time.Now()
	d.Clock.base.Store(&measured{postgres: postgres.UTC().Add(after.Sub(before) / 2), host: after})
	return nil
}
