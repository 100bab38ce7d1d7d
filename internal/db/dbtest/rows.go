package dbtest

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// Merchant returns the merchant of this name, which it adds when there is none.
func Merchant(t testing.TB, d *db.DB, name string) (m db.Merchant) {
	t.Helper()
	ctx := context.Background()
	err := d.Tx(ctx, func(tx pgx.Tx) (err error) {
		m, err = d.EnsureMerchant(ctx, tx, audit.System, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// User adds a user of the merchant of this name; "" for staff. Without a password the user is invited.
func User(t testing.TB, d *db.DB, role audit.Role, email, password, merchant string) account.User {
	t.Helper()
	n := account.NewUser{Role: role, Email: email, Password: password}
	if merchant != "" {
		n.MerchantID = Merchant(t, d, merchant).ID
	}
	u, err := account.New(d).AddUser(context.Background(), audit.System, n)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// A State is how a connection made for a test differs from one that works. $1 of its statement is the connection's id.
type State struct {
	sql  string
	args []any
}

// Connection adds a connection to a provider's sandbox, in the given states. It holds no grant: nothing can be read or
// refreshed. It works unless a state says otherwise.
func Connection(t testing.TB, d *db.DB, merchant pg.ID, provider, account, name string, states ...State) pg.ID {
	t.Helper()
	id := pg.NewID()
	exec(t, d, `INSERT INTO connections (id, merchant_id, provider, environment, account_id, account_name, connected_at)
		VALUES ($1, $2, $3, 'sandbox', $4, $5, $6)`, id, merchant, provider, account, name, d.Now())
	exec(t, d, `INSERT INTO grants (connection_id, provider, environment, refreshed_at) VALUES ($1, $2, 'sandbox', $3)`, id, provider, d.Now())
	Set(t, d, id, states...)
	return id
}

// Set brings a connection into states, one after the other.
func Set(t testing.TB, d *db.DB, id pg.ID, states ...State) {
	t.Helper()
	for _, s := range states {
		exec(t, d, s.sql, append([]any{id}, s.args...)...)
	}
}

// Problem is that somebody must act, since a time.
func Problem(problem status.Problem, since time.Time) State {
	return State{`UPDATE connections SET problem = $2, problem_since = $3 WHERE id = $1`, []any{problem, since}}
}

// Refused is that the provider refuses the grant, since a time: the merchant must reconnect.
func Refused(since time.Time) State { return Problem(status.ProblemRejected, since) }

// Working is that there is no problem any more.
func Working() State {
	return State{`UPDATE connections SET problem = '', problem_since = NULL, failing_since = NULL WHERE id = $1`, nil}
}

// Retrying is that refreshes have failed since a time and are tried again.
func Retrying(since time.Time) State {
	return State{`UPDATE connections SET failing_since = $2 WHERE id = $1`, []any{since}}
}

// Lapsing is that access ends at a fixed time unless the merchant reconnects.
func Lapsing(end time.Time) State {
	return State{`UPDATE grants SET refresh_expires_at = $2, refresh_expiry_fixed = true WHERE connection_id = $1`, []any{end}}
}

// Unrenewable is that nothing renews the access, which has no known end.
func Unrenewable() State {
	return State{`UPDATE grants SET renewable = false, refresh_at = NULL, expires_at = NULL, lifetime_seconds = 0 WHERE connection_id = $1`, nil}
}

// Disconnected is that the connection was ended at a time.
func Disconnected(at time.Time) State {
	return State{`UPDATE connections SET problem = '', problem_since = NULL, disconnected_at = $2 WHERE id = $1`, []any{at}}
}

// Nameless is that the provider names no account: the connection's own id stands for it.
func Nameless() State {
	return State{`UPDATE connections SET account_name = '', account_id = id::text WHERE id = $1`, nil}
}

// Incident opens an incident at a provider's sandbox.
func Incident(t testing.TB, d *db.DB, provider string, reason status.Reason) {
	t.Helper()
	exec(t, d, `INSERT INTO providers (name, environment, incident_since, incident_reason) VALUES ($1, 'sandbox', $2, $3)
		ON CONFLICT (name, environment) DO UPDATE SET incident_since = excluded.incident_since, incident_reason = excluded.incident_reason`, provider, d.Now(), reason)
}

// Pause has a provider's sandbox have asked all of us to wait.
func Pause(t testing.TB, d *db.DB, provider string, until time.Time) {
	t.Helper()
	exec(t, d, `INSERT INTO providers (name, environment, paused_until) VALUES ($1, 'sandbox', $2)
		ON CONFLICT (name, environment) DO UPDATE SET paused_until = excluded.paused_until`, provider, until)
}

// NoIncidents ends every incident.
func NoIncidents(t testing.TB, d *db.DB) {
	t.Helper()
	exec(t, d, `UPDATE providers SET incident_since = NULL`)
}

// Bulk adds many refreshes that were confirmed an hour ago and are not done.
func Bulk(t testing.TB, d *db.DB, by pg.ID, provider string, connections ...pg.ID) pg.ID {
	t.Helper()
	id := pg.NewID()
	exec(t, d, `INSERT INTO bulks (id, filter, state, created_by, created_at) VALUES ($1, '{"connections": {}}', 'running', $2, $3)`, id, by, d.Now().Add(-time.Hour))
	for _, c := range connections {
		exec(t, d, `INSERT INTO bulk_items (bulk_id, connection_id, provider) VALUES ($1, $2, $3)`, id, c, provider)
	}
	return id
}

// Event adds an event at a time, which may be one whose month has no partition yet.
func Event(t testing.TB, d *db.DB, kind status.Kind, at time.Time) {
	t.Helper()
	exec(t, d, `SELECT events_make_month($1::date)`, at)
	exec(t, d, `INSERT INTO events (id, at, kind) VALUES ($1, $2, $3)`, pg.NewID(), at, kind)
}

// Events counts the events of a kind.
func Events(t testing.TB, d *db.DB, kind status.Kind) int {
	t.Helper()
	return count(t, d, `SELECT count(*) FROM events WHERE kind = $1`, kind)
}

// LastEvent is the newest event of a kind: its reference and who did it.
func LastEvent(t testing.TB, d *db.DB, kind status.Kind) (reference string, actor pg.ID) {
	t.Helper()
	var id *pg.ID
	err := d.Pool.QueryRow(context.Background(), `SELECT reference, actor_id FROM events WHERE kind = $1 ORDER BY at DESC, id DESC LIMIT 1`, kind).Scan(&reference, &id)
	if err != nil {
		t.Fatal(err)
	}
	if id != nil {
		actor = *id
	}
	return reference, actor
}

// RenameMerchant renames one merchant that has a connection.
func RenameMerchant(t testing.TB, d *db.DB, name string) {
	t.Helper()
	exec(t, d, `UPDATE merchants SET name = $1 WHERE id = (SELECT merchant_id FROM connections LIMIT 1)`, name)
}

// WaitingFlow returns a flow whose grant for account waits for a choice. The provider gave the grant at the time obtained; reconnect is the connection to reconnect, or zero.
func WaitingFlow(t testing.TB, d *db.DB, u account.User, account string, obtained time.Time, reconnect pg.ID) db.Flow {
	t.Helper()
	ctx := context.Background()
	f, err := d.BeginFlow(ctx, db.NewFlow{
		ID: pg.NewID(), UserID: u.ID, MerchantID: u.MerchantID, Provider: "acme", Environment: "sandbox", ConnectionID: reconnect,
		State: pg.NewSecret(), Browser: pg.NewSecret(), Verifier: "a verifier", By: audit.System,
	})
	if err != nil {
		t.Fatal(err)
	}
	claimed, err := d.ClaimFlow(ctx, f, string(pg.NewSecret()))
	if err != nil {
		t.Fatal(err)
	}
	if claimed.Verifier != "a verifier" {
		t.Fatalf("the verifier came back as %q", claimed.Verifier)
	}
	g := connectors.Grant{Token: connectors.Token{Access: "token of " + account, Lifetime: time.Hour}, Account: connectors.Account{ID: account, Name: account}}
	f, err = d.KeepGrant(ctx, claimed.Flow, db.Exchange{Grant: g, Obtained: obtained})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// LastFlow is the newest attempt to connect: its reference and the connection that it is to renew.
func LastFlow(t testing.TB, d *db.DB) (reference string, reconnects pg.ID) {
	t.Helper()
	var id *pg.ID
	err := d.Pool.QueryRow(context.Background(), `SELECT reference, connection_id FROM flows ORDER BY created_at DESC LIMIT 1`).Scan(&reference, &id)
	if err != nil {
		t.Fatal(err)
	}
	if id != nil {
		reconnects = *id
	}
	return reference, reconnects
}

// Flows counts the attempts to connect, and those that hold something sealed.
func Flows(t testing.TB, d *db.DB) (all, sealed int) {
	t.Helper()
	return count(t, d, `SELECT count(*) FROM flows`), count(t, d, `SELECT count(*) FROM flows WHERE sealed IS NOT NULL`)
}

// InterruptFlows leaves the flows that have begun as a process leaves them that is killed during the exchange.
func InterruptFlows(t testing.TB, d *db.DB) {
	t.Helper()
	exec(t, d, `UPDATE flows SET stage = 'exchanging', touched_at = $1 WHERE stage = 'begun'`, d.Now())
}

// SealedGrants counts the connections whose grant is kept.
func SealedGrants(t testing.TB, d *db.DB) int {
	t.Helper()
	return count(t, d, `SELECT count(*) FROM grants WHERE sealed IS NOT NULL`)
}

// Verifications counts the connections that are to be asked about because of a notice from the provider.
func Verifications(t testing.TB, d *db.DB) int {
	t.Helper()
	return count(t, d, `SELECT count(*) FROM rechecks`)
}

// NoPassword takes a user's password away, as if they had never accepted their invitation.
func NoPassword(t testing.TB, d *db.DB, email string) {
	t.Helper()
	ChangeSigned(t, d, `UPDATE users SET password_hash = '', mac = NULL WHERE email = $1`, email)
}

// ChangeSigned changes rows that give authority as only a process with the keyset can. The statement sets their mac to NULL.
func ChangeSigned(t testing.TB, d *db.DB, sql string, args ...any) {
	t.Helper()
	err := d.Tx(context.Background(), func(tx pgx.Tx) error {
		if _, err := tx.Exec(context.Background(), sql, args...); err != nil {
			return err
		}
		return d.SignAll(context.Background(), tx)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// WrongKeyset makes the database one that its keyset does not open.
func WrongKeyset(t testing.TB, d *db.DB) {
	t.Helper()
	exec(t, d, `UPDATE keyset_check SET sealed = '\x0102'`)
}

// DueJobs makes the jobs of a kind due at once.
func DueJobs(t testing.TB, d *db.DB, kind string) {
	t.Helper()
	exec(t, d, `UPDATE river_job SET scheduled_at = now(), state = 'available' WHERE kind = $1`, kind)
}

// Jobs counts the jobs of a kind that may run within a time, and those that will not: they are over or due later.
func Jobs(t testing.TB, d *db.DB, kind string, within time.Duration) (waiting, others int) {
	t.Helper()
	err := d.Pool.QueryRow(context.Background(), `
		SELECT count(*) FILTER (WHERE NOT done), count(*) FILTER (WHERE done)
		FROM (SELECT finalized_at IS NOT NULL OR state = 'scheduled' AND scheduled_at > now() + $2::interval AS done FROM river_job WHERE kind = $1) j`,
		kind, within).Scan(&waiting, &others)
	if err != nil {
		t.Fatal(err)
	}
	return waiting, others
}

// DueErasures has what providers are owed after erasures be due at once.
func DueErasures(t testing.TB, d *db.DB) {
	t.Helper()
	exec(t, d, `UPDATE erasure_revocations SET due_at = '-infinity' WHERE sealed IS NOT NULL`)
}

// FailJobs has the jobs of a kind fail for a reason: given up, or waiting for another try.
func FailJobs(t testing.TB, d *db.DB, kind, reason string, givenUp bool) {
	t.Helper()
	_, err := d.Pool.Exec(context.Background(), `
		UPDATE river_job SET errors = ARRAY[jsonb_build_object('error', $2::text)], attempt = CASE WHEN $3 THEN max_attempts ELSE 1 END, attempted_at = now(),
			scheduled_at = now() + interval '1 minute', state = CASE WHEN $3 THEN 'discarded' ELSE 'retryable' END::river_job_state,
			finalized_at = CASE WHEN $3 THEN now() END
		WHERE kind = $1`, kind, reason, givenUp)
	if err != nil {
		t.Fatal(err)
	}
}

// Dump is every row of every table of ours, as text.
func Dump(t testing.TB, d *db.DB) string {
	t.Helper()
	ctx := context.Background()
	rows, err := d.Pool.Query(ctx, `SELECT format('SELECT t::text FROM %I.%I t', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var all []byte
	for _, sql := range tables {
		rows, err := d.Pool.Query(ctx, sql)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range lines {
			all = append(append(all, line...), '\n')
		}
	}
	return string(all)
}

func exec(t testing.TB, d *db.DB, sql string, args ...any) {
	t.Helper()
	if _, err := d.Pool.Exec(context.Background(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func count(t testing.TB, d *db.DB, sql string, args ...any) (n int) {
	t.Helper()
	if err := d.Pool.QueryRow(context.Background(), sql, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// HoldAccount keeps every transaction that connects the account waiting until the function that it returns is called.
func HoldAccount(t testing.TB, d *db.DB, provider, environment, account string) (release func()) {
	t.Helper()
	tx, err := d.Pool.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(context.Background(), `SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2 || ' ' || $3, 0))`, provider, environment, account); err != nil {
		t.Fatal(err)
	}
	release = sync.OnceFunc(func() {
		if err := tx.Rollback(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(release)
	return release
}

// HeldTransactions counts the transactions that wait for a lock.
func HeldTransactions(t testing.TB, d *db.DB) int {
	t.Helper()
	return count(t, d, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)
}
