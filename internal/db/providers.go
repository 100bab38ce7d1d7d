package db

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ProviderRecord is what was done and found out at a provider by staff: registrations and the last live check.
type ProviderRecord struct {
	StateEchoed          bool
	CallbackRegisteredAt time.Time
	CallbackAddress      string
	HookRegisteredAt     time.Time
	CheckedAt            time.Time
	CheckResult          string // ok, or the class of what went wrong
	CheckTook, CheckSkew time.Duration
}

// ProviderRecord reads it; zero when there is none.
func (d *DB) ProviderRecord(ctx context.Context, name, environment string) (ProviderRecord, error) {
	var p ProviderRecord
	var callback, hook, checked *time.Time
	var took, skew int64
	err := d.pool.QueryRow(ctx, `SELECT state_echoed, callback_registered_at, callback_address, hook_registered_at, checked_at, check_result, check_millis, check_skew_millis
		FROM providers WHERE name = $1 AND environment = $2`, name, environment).
		Scan(&p.StateEchoed, &callback, &p.CallbackAddress, &hook, &checked, &p.CheckResult, &took, &skew)
	if errors.Is(err, pgx.ErrNoRows) {
		return ProviderRecord{}, nil
	}
	if err != nil {
		return p, fmt.Errorf("read provider: %w", err)
	}
	p.CallbackRegisteredAt, p.HookRegisteredAt, p.CheckedAt = timeOrZero(callback), timeOrZero(hook), timeOrZero(checked)
	p.CheckTook, p.CheckSkew = time.Duration(took)*time.Millisecond, time.Duration(skew)*time.Millisecond
	return p, nil
}

// CallbackRegistered remembers that the provider was told our callback address.
func (d *DB) CallbackRegistered(ctx context.Context, name, environment, address string, by By) error {
	return d.providerChanged(ctx, name, environment, by, Event{Kind: "provider.registered", Note: address},
		`callback_registered_at = $3, callback_address = $4`, d.Now(), address)
}

// HookRegistered remembers that the provider was asked for webhooks of all accounts.
func (d *DB) HookRegistered(ctx context.Context, name, environment string, by By) error {
	return d.providerChanged(ctx, name, environment, by, Event{Kind: "provider.hooked"}, `hook_registered_at = $3`, d.Now())
}

// HookRemoved remembers that the provider was asked for no more webhooks of n accounts.
func (d *DB) HookRemoved(ctx context.Context, name, environment string, n int, by By) error {
	return d.providerChanged(ctx, name, environment, by, Event{Kind: "provider.unhooked", Note: fmt.Sprint(n)}, `hook_registered_at = NULL`)
}

// ProviderChecked remembers what a live check found.
func (d *DB) ProviderChecked(ctx context.Context, name, environment, result string, took, skew time.Duration, by By) error {
	return d.providerChanged(ctx, name, environment, by, Event{Kind: "provider.checked", Class: result, Millis: int(took.Milliseconds())},
		`checked_at = $3, check_result = $4, check_millis = $5, check_skew_millis = $6`, d.Now(), result, took.Milliseconds(), skew.Milliseconds())
}

func (d *DB) providerChanged(ctx context.Context, name, environment string, by By, e Event, set string, args ...any) error {
	return d.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO providers (name, environment) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, environment); err != nil {
			return fmt.Errorf("note %s: %w", e.Kind, err)
		}
		if _, err := tx.Exec(ctx, `UPDATE providers SET `+set+` WHERE name = $1 AND environment = $2`, append([]any{name, environment}, args...)...); err != nil {
			return fmt.Errorf("note %s: %w", e.Kind, err)
		}
		e.Provider = name
		return d.addEvent(ctx, tx, *e.by(by))
	})
}

// HookAccounts lists the accounts at a provider whose webhooks may be asked for: those with a live connection.
func (d *DB) HookAccounts(ctx context.Context, name, environment string) ([]string, error) {
	rows, err := d.pool.Query(ctx, `SELECT DISTINCT account_id FROM connections WHERE provider = $1 AND environment = $2 AND disconnected_at IS NULL ORDER BY 1`, name, environment)
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	accounts, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list accounts: %w", err)
	}
	return accounts, nil
}

// Lapse is a connection whose access ends on a known day unless its merchant comes back.
type Lapse struct {
	Line
	Until time.Time
}

// Lapses lists those that end before the given time, the next first, and says how many there are, counted up to 10,000.
func (d *DB) Lapses(ctx context.Context, before time.Time, limit int) (list []Lapse, count int64, err error) {
	rows, err := d.pool.Query(ctx, `SELECT `+connectionColumns+`, m.name, g.refresh_expires_at
		FROM grants g JOIN connections c ON c.id = g.connection_id JOIN merchants m ON m.id = c.merchant_id
		WHERE g.refresh_fixed AND g.refresh_expires_at > $1 AND g.refresh_expires_at < $2 AND c.disconnected_at IS NULL AND c.problem = ''
		ORDER BY g.refresh_expires_at LIMIT $3`, d.Now(), before, limit)
	if err != nil {
		return nil, 0, fmt.Errorf("list lapses: %w", err)
	}
	list, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Lapse, err error) {
		targets, finish := connectionTargets(&l.Connection)
		if err := row.Scan(append(targets, &l.MerchantName, &l.Until)...); err != nil {
			return l, err
		}
		l.Until = l.Until.UTC()
		return l, finish()
	})
	if err == nil {
		err = d.pool.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM grants WHERE refresh_fixed AND refresh_expires_at > $1 AND refresh_expires_at < $2 LIMIT 10000) AS some_of`,
			d.Now(), before).Scan(&count)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("list lapses: %w", err)
	}
	return list, count, nil
}

// WaitingForUs counts a provider's connections that nobody but the platform can mend, up to 10,000.
func (d *DB) WaitingForUs(ctx context.Context, name, environment string) (int64, error) {
	var n int64
	err := d.pool.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM connections WHERE provider = $1 AND environment = $2 AND state IN ('ours', 'sealed') LIMIT 10000) AS waiting`,
		name, environment).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count what waits for us: %w", err)
	}
	return n, nil
}

// StateEchoed says whether a provider has been seen to send state back.
func (d *DB) StateEchoed(ctx context.Context, provider, environment string) (bool, error) {
	var echoed bool
	err := d.pool.QueryRow(ctx, `SELECT coalesce((SELECT state_echoed FROM providers WHERE name = $1 AND environment = $2), false)`, provider, environment).Scan(&echoed)
	if err != nil {
		return false, fmt.Errorf("read provider: %w", err)
	}
	return echoed, nil
}

// SetStateEchoed remembers that a provider sends state back: from now on a callback without it is refused.
func (d *DB) SetStateEchoed(ctx context.Context, provider, environment string) error {
	_, err := d.pool.Exec(ctx, `INSERT INTO providers (name, environment, state_echoed)
		SELECT $1, $2, true WHERE NOT EXISTS (SELECT FROM providers WHERE name = $1 AND environment = $2 AND state_echoed)
		ON CONFLICT (name, environment) DO UPDATE SET state_echoed = true`, provider, environment)
	if err != nil {
		return fmt.Errorf("remember state: %w", err)
	}
	return nil
}
