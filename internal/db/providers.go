package db

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// ProviderRecord has what staff registered at a provider, and the result of their last live check.
type ProviderRecord struct {
	StateEchoed          bool // the provider has sent a state back: a callback without it is rejected
	CallbackRegisteredAt time.Time
	CallbackAddress      string
	HookRegisteredAt     time.Time
	CheckedAt            time.Time
	CheckResult          status.Outcome
	CheckTook, CheckSkew time.Duration
	CheckReason          string    // why it found no answer; "" if it found one
	RequestFailed        string    // what staff asked for last and the provider did not do; "" if it did
	RequestReason        string    // why it did not
	RequestFailedAt      time.Time // when
	CallbackRefusedAt    time.Time // since when the provider says that our callback address is not registered; zero if it does not
}

// ProviderRecords returns those of the providers' present environments, by the provider's name.
func (d *DB) ProviderRecords(ctx context.Context, present map[string]string) (map[string]ProviderRecord, error) {
	all := map[string]ProviderRecord{}
	var name string
	var p ProviderRecord
	var took, skew int64
	err := pg.Each(ctx, d.Pool, "read providers", []any{
		&name, &p.StateEchoed, &p.CallbackRegisteredAt, &p.CallbackAddress, &p.HookRegisteredAt, &p.CheckedAt, &p.CheckResult, &took, &skew,
		&p.CheckReason, &p.RequestFailed, &p.RequestReason, &p.RequestFailedAt, &p.CallbackRefusedAt,
	}, func() error {
		p.CheckTook, p.CheckSkew = time.Duration(took)*time.Millisecond, time.Duration(skew)*time.Millisecond
		all[name] = p
		return nil
	}, `
		SELECT p.name, state_echoed, callback_registered_at, callback_address, webhook_registered_at, checked_at, check_result, check_millis, check_skew_millis,
			check_reason, request_failed, request_reason, request_failed_at, callback_refused_at
		FROM providers p JOIN jsonb_each_text($1) AS w (name, environment) ON (p.name, p.environment) = (w.name, w.environment)`, present)
	return all, err
}

// CallbackRegistered stores that our callback address was registered at the provider.
func (d *DB) CallbackRegistered(ctx context.Context, name, environment, address string, by audit.Actor) error {
	return d.providerChanged(ctx, name, environment, by, audit.Event{Kind: status.ProviderRegistered, Note: address},
		`callback_registered_at = $3, callback_address = $4, request_failed = ''`, d.Now(), address)
}

// HookRegistered stores that we subscribed to the webhooks of all accounts.
func (d *DB) HookRegistered(ctx context.Context, name, environment string, by audit.Actor) error {
	return d.providerChanged(ctx, name, environment, by, audit.Event{Kind: status.ProviderWebhookRegistered}, `webhook_registered_at = $3, request_failed = ''`, d.Now())
}

// HookRemoved stores that we unsubscribed from the webhooks of n accounts.
func (d *DB) HookRemoved(ctx context.Context, name, environment string, n int, by audit.Actor) error {
	return d.providerChanged(ctx, name, environment, by, audit.Event{Kind: status.ProviderWebhookUnregistered, Note: fmt.Sprint(n)}, `webhook_registered_at = NULL, request_failed = ''`)
}

// ProviderChecked stores the result of a live check: why it found no answer, how long the call took and how far the provider's clock
// is ahead of ours.
func (d *DB) ProviderChecked(ctx context.Context, name, environment string, result status.Outcome, reason string, took, skew time.Duration, by audit.Actor) error {
	return d.providerChanged(ctx, name, environment, by, audit.Event{Kind: status.ProviderChecked, Outcome: result, Note: reason, Millis: int(took.Milliseconds())},
		`checked_at = $3, check_result = $4, check_millis = $5, check_skew_millis = $6, check_reason = $7`,
		d.Now(), result, took.Milliseconds(), skew.Milliseconds(), reason)
}

// RequestFailed remembers that the provider did not do what staff asked for: "register", "hook" or "unhook".
func (d *DB) RequestFailed(ctx context.Context, name, environment, what string, result status.Outcome, reason string, by audit.Actor) error {
	return d.providerChanged(ctx, name, environment, by, audit.Event{Kind: status.ProviderRequestFailed, Outcome: result, Code: what, Note: reason},
		`request_failed = $3, request_reason = $4, request_failed_at = $5`, what, reason, d.Now())
}

// CallbackRefused remembers that the provider says that our callback address is not registered, or no longer says so.
func (d *DB) CallbackRefused(ctx context.Context, name, environment string, refused bool, address string, by audit.Actor) error {
	kind, since := status.ProviderCallbackAccepted, time.Time{}
	if refused {
		kind, since = status.ProviderCallbackRefused, d.Now()
	}
	return d.providerChanged(ctx, name, environment, by, audit.Event{Kind: kind, Note: address}, `callback_refused_at = $3`, since)
}

// CallbackRefusedSince returns since when the provider says that our callback address is not registered; zero if it does not.
func (d *DB) CallbackRefusedSince(ctx context.Context, name, environment string) (time.Time, error) {
	return pg.One(ctx, d.Pool, "read provider", func(row pgx.CollectableRow) (since time.Time, err error) { return since, row.Scan(&since) },
		`SELECT (SELECT callback_refused_at FROM providers WHERE name = $1 AND environment = $2)`, name, environment)
}

func (d *DB) providerChanged(ctx context.Context, name, environment string, by audit.Actor, e audit.Event, set string, args ...any) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		if _, err := pg.Exec(ctx, tx, "add provider", `INSERT INTO providers (name, environment) VALUES ($1, $2) ON CONFLICT DO NOTHING`, name, environment); err != nil {
			return err
		}
		if _, err := pg.Exec(ctx, tx, "note "+string(e.Kind), `UPDATE providers SET `+set+` WHERE name = $1 AND environment = $2`, append([]any{name, environment}, args...)...); err != nil {
			return err
		}
		e.Provider, e.Actor = name, by
		return d.Audit.Add(ctx, tx, e)
	})
}

// ProviderStatuses adds the open incidents to what the providers' settings mean for their connections.
func (d *DB) ProviderStatuses(ctx context.Context, settings status.Providers) (status.Providers, error) {
	type incident struct {
		Name, Environment string
		Reason            status.Reason
	}
	open, err := pg.Collect(ctx, d.Pool, "read incidents", pgx.RowToStructByPos[incident], `SELECT name, environment, incident_reason FROM providers WHERE incident_since IS NOT NULL`)
	if err != nil {
		return nil, err
	}
	providers := maps.Clone(settings)
	for _, one := range open {
		providers.SetIncident(one.Name, one.Environment, one.Reason)
	}
	return providers, nil
}

// HookAccounts lists the accounts at a provider that have a connection which is not disconnected.
func (d *DB) HookAccounts(ctx context.Context, name, environment string) ([]string, error) {
	return pg.Collect(ctx, d.Pool, "list accounts", pgx.RowTo[string],
		`SELECT DISTINCT account_id FROM connections WHERE provider = $1 AND environment = $2 AND disconnected_at IS NULL ORDER BY 1`, name, environment)
}

// WaitingForPlatform counts each provider's connections in its present environment on which the platform must act, by the provider's
// name: those that a list with this Party shows. It counts 10,000 in each stored state at most.
func (d *DB) WaitingForPlatform(ctx context.Context, providers status.Providers) (map[string]int64, error) {
	var names, environments, states []string
	for name, p := range providers {
		for _, state := range p.StatesWhere(p.Environment, func(s status.Status) bool { return s.Party == status.PartyPlatform }) {
			names, environments, states = append(names, name), append(environments, p.Environment), append(states, state)
		}
	}
	return pg.Read(ctx, d.DB, func(ctx context.Context, q pg.Querier) (map[string]int64, error) {
		waiting := map[string]int64{}
		var name string
		var n int64
		err := pg.Each(ctx, q, "count what waits for the platform", []any{&name, &n}, func() error { waiting[name] += n; return nil }, `
			SELECT p.name, (SELECT count(*) FROM (
				SELECT FROM connections c WHERE c.provider = p.name AND c.environment = p.environment AND c.state = p.state LIMIT 10000) AS waiting)
			FROM unnest($1::text[], $2::text[], $3::text[]) AS p (name, environment, state)`, names, environments, states)
		if err != nil {
			return nil, err
		}
		return waiting, nil
	})
}
