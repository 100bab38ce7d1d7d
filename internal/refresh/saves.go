package refresh

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// ErrUnsaved says that no refresh is begun because answers of providers are not saved: they are held in memory until they are.
var ErrUnsaved = errors.New("answers of providers cannot be saved")

// How long the result of a check is used, by success and failure, and how long a check may take.
const (
	checkValidFor   = time.Minute
	failureValidFor = time.Second
	checkTimeout    = 10 * time.Second
	resumeAfter     = 5 * time.Second // longer than retryWrite waits: answers that other processes hold are saved before their grants are claimed
)

// saveCheck is whether the database can be written to, as far as this process knows. unsaved counts the writes that failed and are being
// repeated.
type saveCheck struct {
	unsaved atomic.Int64
	mu      sync.Mutex
	at      time.Time // of the last check; by the host's monotonic clock, as are the others
	err     error
	failing time.Time // since when
	resume  time.Time // nothing is claimed before
}

// noteFailure notes that a write failed. p.mu is held.
func (p *saveCheck) noteFailure() {
	if p.failing.IsZero() {
		p.failing = time.Now()
	}
}

// noteSuccess notes that a write succeeded. p.mu is held. If none did for longer than a lease lasts, leases have lapsed whose answers are
// only now being saved.
func (p *saveCheck) noteSuccess(lease time.Duration) {
	now := time.Now()
	if !p.failing.IsZero() && now.Sub(p.failing) > lease {
		p.resume = now.Add(resumeAfter)
	}
	p.at, p.err, p.failing = now, nil, time.Time{}
}

// CheckSaves returns an error that wraps ErrUnsaved while an answer of a provider waits to be saved, or if none could be: then nothing
// is claimed. If no write succeeded within a minute, one is tried and rolled back.
func (e *Engine) CheckSaves(ctx context.Context) error {
	if n := e.saves.unsaved.Load(); n > 0 {
		return fmt.Errorf("%w: %d wait", ErrUnsaved, n)
	}
	e.saves.mu.Lock()
	defer e.saves.mu.Unlock()
	if time.Now().Before(e.saves.resume) {
		return fmt.Errorf("%w: other processes save their answers", ErrUnsaved)
	}
	valid := checkValidFor
	if e.saves.err != nil {
		valid = failureValidFor
	}
	if !e.saves.at.IsZero() && time.Since(e.saves.at) < valid {
		return e.saves.err
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	err := TrySave(ctx, e.DB)
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	if err == nil {
		e.saves.noteSuccess(e.Term)
		return nil
	}
	if !pg.Unavailable(err) {
		err = fmt.Errorf("%w: %w", ErrUnsaved, err)
	}
	e.saves.noteFailure()
	e.saves.at, e.saves.err = time.Now(), err
	return err
}

// isDataError says that a write failed for what is in it (SQLSTATE class 22): it says nothing of other writes.
func isDataError(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && strings.HasPrefix(pgErr.Code, "22")
}

// retryWrite repeats a write to Postgres until it succeeds or ctx ends, after 50 ms doubling to 2 s. Nothing is claimed meanwhile:
// its answer might be lost too.
func retryWrite[T any](ctx context.Context, e *Engine, write func(again bool) (T, error)) (T, error) {
	pauses := &backoff.ExponentialBackOff{InitialInterval: 50 * time.Millisecond, Multiplier: 2, MaxInterval: 2 * time.Second}
	again, counted := false, false
	result, err := backoff.Retry(ctx, func() (T, error) {
		result, err := write(again)
		if err != nil && !counted && !isDataError(err) {
			counted = true
			e.saves.unsaved.Add(1)
			e.saves.mu.Lock()
			e.saves.noteFailure()
			e.saves.mu.Unlock()
		}
		again = true
		return result, err
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0))
	e.saves.mu.Lock()
	defer e.saves.mu.Unlock()
	if err == nil {
		e.saves.noteSuccess(e.Term)
	}
	if counted {
		e.saves.unsaved.Add(-1)
	}
	return result, err
}

// errRollback has a trial rolled back.
var errRollback = errors.New("a trial is rolled back")

// TrySave returns an error unless a connection can be made and its refreshed grant be saved and read back, in a transaction that is
// rolled back. Nothing is to be sent to a provider while its answer could not be kept.
func TrySave(ctx context.Context, d *db.DB) error {
	err := d.Tx(ctx, func(tx pgx.Tx) error {
		c, err := d.AddTrialConnection(ctx, tx)
		if err != nil {
			return err
		}
		if err := saveTrial(ctx, d, tx, c); err != nil {
			return err
		}
		var sealed []byte
		var generation int64
		if err := tx.QueryRow(ctx, `SELECT sealed, generation FROM grants WHERE connection_id = $1`, c.ID).Scan(&sealed, &generation); err != nil {
			return err
		}
		if _, err := d.OpenGrant(sealed, db.GrantPlace(c.ID, c.MerchantID, generation)); err != nil {
			return err
		}
		return errRollback
	})
	if errors.Is(err, errRollback) {
		return nil
	}
	return fmt.Errorf("what Patchbay saves cannot be written: %w", err)
}

// saveTrial writes what a refresh of a connection of the first generation saves.
func saveTrial(ctx context.Context, d *db.DB, tx pgx.Tx, c db.Connection) error {
	sealed, err := d.SealGrant(connectors.Grant{Account: c.Account}, db.GrantPlace(c.ID, c.MerchantID, 2))
	if err != nil {
		return err
	}
	now := d.Now()
	l := &lease{ID: pg.NewID(), Connection: c.ID, Merchant: c.MerchantID, Provider: c.Provider, Environment: c.Environment, Generation: 1, ConnectionVersion: 1}
	s := &save{lease: l, event: l.event(status.RefreshSaved, status.OK, attemptInfo{By: audit.System}), row: savedGrant{
		Connection: l.Connection, Lease: l.ID, Generation: l.Generation, ConnectionVersion: l.ConnectionVersion, Sealed: sealed, Expires: now, RefreshAt: now, Obtained: now,
	}}
	var updated []int
	b := &pgx.Batch{}
	q := &providerQueue{db: d, info: connectors.Info{Name: c.Provider}}
	q.queueSaves(b, []*save{s}, func(rows []int) { updated = rows })
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	if len(updated) != 1 {
		return errors.New("a save found no grant")
	}
	return nil
}
