package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"patchbay/internal/connectors"
)

// Connection is one merchant's account at one provider. It holds no secret: those are in its grant.
type Connection struct {
	ID             ID
	MerchantID     ID
	Provider       string
	Environment    string
	Account        connectors.Account
	Problem        string // one of the Problem codes; "" when there is nothing to put right
	ProblemSince   time.Time
	FailingSince   time.Time // zero while renewing works
	ConnectedBy    ID
	ConnectedAt    time.Time
	DisconnectedAt time.Time // zero while it lives
}

// What someone must put right on a connection. Who that is follows from it: see WhoMustAct.
const (
	ProblemRefused     = "refused"     // the provider said no to the grant: reconnect
	ProblemInterrupted = "interrupted" // a renewal whose answer was lost, refused afterwards: reconnect
	ProblemLapsed      = "lapsed"      // the grant's own time is over: reconnect
	ProblemRevoked     = "revoked"     // access was ended at the provider: reconnect
	ProblemOurs        = "ours"        // our own client was refused
	ProblemSealed      = "sealed"      // its grant does not open: a key is missing
	ProblemEnvironment = "environment" // derived, never stored: it belongs to another environment than the provider's present one
)

// Health of a connection, derived and never stored.
const (
	Fine         = "fine"
	Retrying     = "retrying"
	ActionNeeded = "action-needed"
	Disconnected = "disconnected"
)

// Health says how the connection is. The SQL function connection_health says the same.
func (c Connection) Health() string {
	switch {
	case !c.DisconnectedAt.IsZero():
		return Disconnected
	case c.Problem != "":
		return ActionNeeded
	case !c.FailingSince.IsZero():
		return Retrying
	default:
		return Fine
	}
}

// WhoMustAct is "merchant", "provider", "platform", or "" when nobody must.
func (c Connection) WhoMustAct() string {
	switch {
	case !c.DisconnectedAt.IsZero():
		return ""
	case slices.Contains(platformProblems(), c.Problem):
		return "platform"
	case c.Problem != "":
		return "merchant"
	case !c.FailingSince.IsZero():
		return "provider"
	default:
		return ""
	}
}

func platformProblems() []string { return []string{ProblemOurs, ProblemSealed, ProblemEnvironment} }

const connectionColumns = `c.id, c.merchant_id, c.provider, c.environment, c.account_id, c.account_name, c.details, c.problem,
	c.problem_since, c.failing_since, c.connected_by, c.connected_at, c.disconnected_at`

// connectionTargets are what connectionColumns are scanned into; call the function returned afterwards.
func connectionTargets(c *Connection) ([]any, func() error) {
	var details []byte
	var problemSince, failingSince, disconnectedAt *time.Time
	var by *ID
	return []any{
		&c.ID, &c.MerchantID, &c.Provider, &c.Environment, &c.Account.ID, &c.Account.Name, &details, &c.Problem,
		&problemSince, &failingSince, &by, &c.ConnectedAt, &disconnectedAt,
	}, func() error {
		c.ProblemSince, c.FailingSince, c.DisconnectedAt = timeOrZero(problemSince), timeOrZero(failingSince), timeOrZero(disconnectedAt)
		c.ConnectedAt, c.ConnectedBy = c.ConnectedAt.UTC(), idOrZero(by)
		if err := json.Unmarshal(details, &c.Account.Details); err != nil {
			return fmt.Errorf("details of connection %s: %w", c.ID, err)
		}
		return nil
	}
}

func scanConnection(row pgx.CollectableRow) (Connection, error) {
	var c Connection
	targets, finish := connectionTargets(&c)
	if err := row.Scan(targets...); err != nil {
		return c, err
	}
	return c, finish()
}

func timeOrZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// searchText is what a connection is found by: its account's id, names and facts, in lower case. Structures that a
// provider sent (Flexiti's form_values) are left out: nobody searches them and they would fill the index.
func searchText(a connectors.Account) string {
	words := []string{a.ID, a.Name}
	for _, d := range a.Details {
		if !strings.HasPrefix(d.Value, "{") && !strings.HasPrefix(d.Value, "[") && !slices.Contains(words, d.Value) {
			words = append(words, d.Value)
		}
	}
	return strings.ToLower(strings.Join(words, " "))
}

// accountLock is held to the end of a transaction by whatever begins to revoke an account. Always the first lock that a
// transaction takes.
const accountLock = `SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2 || ' ' || $3, 0))`

// connectLocks are held to the end of a transaction that connects an account: of it and a revocation one sees the other,
// and so do two attempts of one merchant. Those of different merchants do not wait for each other.
const connectLocks = `SELECT pg_advisory_xact_lock_shared(hashtextextended($1 || ' ' || $2 || ' ' || $3, 0)),
	pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2 || ' ' || $3 || ' ' || $4, 0))`

// Made is what a flow that connected has made.
type Made struct {
	Connection Connection
	Outcome    string
	Parting    *Parting // the account that was replaced: its access is no longer wanted
}

// Connect does what the person chose for a flow that waits for it, or, with choice "", connects where nothing has to be
// asked: connection and grant are written and the flow is closed, all or nothing. What may be chosen is worked out again
// here: ErrMustChoose. ErrRevoking: ask again shortly. ErrRevoked: its access is presumed dead. ErrTaken: the
// flow no longer waits.
func (d *DB) Connect(ctx context.Context, f Flow, choice string, by By, schedule Schedule) (Made, error) {
	var made Made
	err := d.patiently(ctx, func(tx pgx.Tx) (err error) {
		made, err = d.connect(ctx, tx, f, choice, by, schedule)
		return err
	})
	return made, err
}

func (d *DB) connect(ctx context.Context, tx pgx.Tx, f Flow, choice string, by By, schedule Schedule) (Made, error) {
	now := d.Now()
	b := &pgx.Batch{}
	b.Queue(connectLocks, f.Provider, f.Environment, f.Account.ID, f.MerchantID.String())
	b.Queue(`SELECT `+flowColumns+` FROM flows f WHERE f.id = $1 FOR UPDATE`, f.ID).Query(func(rows pgx.Rows) (err error) {
		f, err = pgx.CollectExactlyOneRow(rows, scanFlow)
		return err
	})
	var pinned, there *Connection
	b.Queue(concerned+` FOR UPDATE`, f.MerchantID, f.Provider, f.Environment, f.Account.ID, nullID(f.ConnectionID)).Query(func(rows pgx.Rows) (err error) {
		pinned, there, err = pinnedAndThere(rows, f)
		return err
	})
	var revokedUntil time.Time
	b.Queue(`SELECT until FROM revocations WHERE provider = $1 AND environment = $2 AND account_id = $3`, f.Provider, f.Environment, f.Account.ID).
		Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&revokedUntil}, func() error { return nil })
			return err
		})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return Made{}, fmt.Errorf("connect: %w", err)
	}
	if stage, _ := f.lapsed(now); f.Stage != Choosing || stage != "" {
		return Made{}, ErrTaken
	}
	s, err := d.openFlow(f)
	if err != nil {
		return Made{}, err
	}
	switch {
	case revokedUntil.After(now):
		return Made{}, ErrRevoking
	case !s.Obtained.After(revokedUntil):
		return Made{}, ErrRevoked
	case s.Grant == nil:
		return Made{}, ErrTaken
	}
	o := offer(s.Grant.Account, pinned, there)
	switch {
	case choice == "" && o.Why == "":
		choice = ChooseConnect
	case !slices.Contains(o.Options, choice):
		return Made{}, ErrMustChoose
	}

	made := Made{Outcome: OutcomeRenewed}
	target := there
	switch {
	case choice == ChooseReplace && there != nil:
		ended, err := d.disconnect(ctx, tx, *pinned, by, "replaced")
		if err != nil {
			return Made{}, err
		}
		made.Outcome, made.Parting = OutcomeReplaced, &ended
	case choice == ChooseReplace:
		ended, err := d.ending(ctx, tx, *pinned)
		if err != nil {
			return Made{}, err
		}
		made.Outcome, made.Parting, target = OutcomeReplaced, &ended, pinned
	case choice == ChooseKeepBoth:
		made.Outcome = OutcomeKept
	case target == nil:
		target = pinned // the provider names nothing
	}
	existed := target != nil
	if !existed {
		target = &Connection{ID: NewID(), MerchantID: f.MerchantID, Provider: f.Provider, Environment: f.Environment, ConnectedAt: now}
		if made.Outcome == OutcomeRenewed {
			made.Outcome = OutcomeConnected
		}
	}
	made.Connection = *target
	c := &made.Connection
	account := s.Grant.Account
	if account.ID == "" {
		account.ID = c.ID.String()
	}
	c.Account, c.ConnectedBy, c.Problem, c.ProblemSince, c.FailingSince = account, f.UserID, "", time.Time{}, time.Time{}
	s.Grant.Account = account
	details, err := json.Marshal(c.Account.Details)
	if err != nil {
		return Made{}, fmt.Errorf("encode details: %w", err)
	}
	if c.Account.Details == nil {
		details = []byte("[]")
	}
	var was before
	if existed {
		if was, err = grantBefore(ctx, tx, c.ID); err != nil {
			return Made{}, err
		}
	}
	b = &pgx.Batch{}
	b.Queue(`INSERT INTO connections (id, merchant_id, provider, environment, account_id, account_name, details, search, connected_by, connected_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (id) DO UPDATE SET account_id = excluded.account_id, account_name = excluded.account_name, details = excluded.details,
			search = excluded.search, connected_by = excluded.connected_by, problem = '', problem_since = NULL, failing_since = NULL`,
		c.ID, c.MerchantID, c.Provider, c.Environment, c.Account.ID, c.Account.Name, details, searchText(c.Account), c.ConnectedBy, c.ConnectedAt)
	if err := d.queueGrant(b, *c, *s.Grant, was, s.Obtained, schedule); err != nil {
		return Made{}, err
	}
	b.Queue(`UPDATE flows SET stage = 'connected', outcome = $2, sealed = NULL, result_id = $3, touched_at = $4 WHERE id = $1`,
		f.ID, made.Outcome, c.ID, now)
	e := f.event("connection.connected").by(by)
	switch {
	case made.Outcome == OutcomeReplaced && there == nil:
		e.Kind = "connection.replaced"
	case existed:
		e.Kind = "connection.reconnected"
	}
	e.ConnectionID, e.Code = c.ID, choice
	d.queueEvent(b, e)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return Made{}, fmt.Errorf("write connection: %w", err)
	}
	return made, nil
}

// patiently runs a transaction again when Postgres broke it off because two waited for each other.
func (d *DB) patiently(ctx context.Context, do func(tx pgx.Tx) error) error {
	for try := 1; ; try++ {
		err := d.tx(ctx, do)
		var pg *pgconn.PgError
		if try == 3 || !errors.As(err, &pg) || pg.Code != "40P01" {
			return err
		}
	}
}

// Parting is a connection that was ended here, with what gave access: in memory only, for the provider to be told.
type Parting struct {
	Connection  Connection
	Grant       connectors.Grant // zero when it does not open any more
	AccessUntil time.Time        // access given out before may work until then; zero when unknown
}

// Disconnect ends a connection here: its grant is deleted, whatever the provider will say. merchant restricts whose it
// may be, zero for staff. ended is false when it had ended before.
func (d *DB) Disconnect(ctx context.Context, id, merchant ID, by By) (e Parting, ended bool, err error) {
	err = d.patiently(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+connectionColumns+` FROM connections c
			WHERE c.id = $1 AND ($2::uuid IS NULL OR c.merchant_id = $2) FOR UPDATE`, id, nullID(merchant))
		if err != nil {
			return fmt.Errorf("disconnect: %w", err)
		}
		c, err := pgx.CollectExactlyOneRow(rows, scanConnection)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("disconnect: %w", err)
		}
		e.Connection = c
		if !c.DisconnectedAt.IsZero() {
			return nil
		}
		ended = true
		e, err = d.disconnect(ctx, tx, c, by, "")
		return err
	})
	return e, ended, err
}

// disconnect ends a connection whose row the caller has locked. why is the event's code.
func (d *DB) disconnect(ctx context.Context, tx pgx.Tx, c Connection, by By, why string) (Parting, error) {
	e, err := d.ending(ctx, tx, c)
	if err != nil {
		return e, err
	}
	now := d.Now()
	e.Connection.DisconnectedAt = now
	if err := d.dropGrant(ctx, tx, c.ID); err != nil {
		return e, err
	}
	if _, err := tx.Exec(ctx, `UPDATE connections SET disconnected_at = $2, failing_since = NULL WHERE id = $1`, c.ID, now); err != nil {
		return e, fmt.Errorf("disconnect: %w", err)
	}
	event := Event{At: now, Kind: "connection.disconnected", MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider, Code: why}
	if !e.AccessUntil.IsZero() {
		event.Note = e.AccessUntil.Format(time.RFC3339)
	}
	return e, d.addEvent(ctx, tx, *event.by(by))
}

// ending takes a connection's grant out, so that the provider can be told that it is no longer wanted.
func (d *DB) ending(ctx context.Context, tx pgx.Tx, c Connection) (Parting, error) {
	e := Parting{Connection: c}
	var sealed []byte
	var generation int64
	var expires *time.Time
	err := tx.QueryRow(ctx, `SELECT sealed, generation, expires_at FROM grants WHERE connection_id = $1 FOR UPDATE`, c.ID).
		Scan(&sealed, &generation, &expires)
	if errors.Is(err, pgx.ErrNoRows) {
		return e, nil
	}
	if err != nil {
		return e, fmt.Errorf("read grant: %w", err)
	}
	if until := timeOrZero(expires); until.After(d.Now()) {
		e.AccessUntil = until
	}
	if g, err := d.keyset.openGrant(sealed, grantPlace(c.ID, generation)); err == nil {
		e.Grant = g
	}
	return e, nil
}

// revokeFor is how long a revocation may take at most: its lock holds no longer, whatever becomes of the process.
const revokeFor = 30 * time.Second

// BeginRevocation takes the lock of an account whose access is to be ended altogether. False when anybody, any
// merchant, has the account connected or waits with a choice about it: then it must not be.
func (d *DB) BeginRevocation(ctx context.Context, provider, environment, account string) (bool, error) {
	now := d.Now()
	var begun bool
	err := d.tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, accountLock, provider, environment, account); err != nil {
			return fmt.Errorf("lock account: %w", err)
		}
		tag, err := tx.Exec(ctx, `
			INSERT INTO revocations (provider, environment, account_id, until)
			SELECT $1, $2, $3, $5
			WHERE NOT EXISTS (SELECT FROM connections WHERE provider = $1 AND environment = $2 AND account_id = $3 AND disconnected_at IS NULL)
				AND NOT EXISTS (SELECT FROM flows WHERE provider = $1 AND environment = $2 AND account_id = $3 AND stage = 'choosing' AND expires_at > $4)
			ON CONFLICT (provider, environment, account_id) DO UPDATE SET until = excluded.until`,
			provider, environment, account, now, now.Add(revokeFor))
		if err != nil {
			return fmt.Errorf("begin revocation: %w", err)
		}
		begun = tag.RowsAffected() == 1
		return nil
	})
	return begun, err
}

// EndRevocation gives the lock back. With spoiled, grants obtained before this moment are presumed dead: the provider
// ended the access, or may have.
func (d *DB) EndRevocation(ctx context.Context, provider, environment, account string, spoiled bool) error {
	until := time.Time{}
	if spoiled {
		until = d.Now()
	}
	if _, err := d.pool.Exec(ctx, `UPDATE revocations SET until = $4 WHERE provider = $1 AND environment = $2 AND account_id = $3`,
		provider, environment, account, until); err != nil {
		return fmt.Errorf("end revocation: %w", err)
	}
	return nil
}

// How the provider took the end of a connection.
const (
	RevokedDone       = "done"
	RevokedFailed     = "failed"
	RevokedKept       = "kept"        // its access was left as it is
	RevokedNotOffered = "not-offered" // it has no way of being told
)

// AddRevoked writes down how the provider took the end of a connection.
func (d *DB) AddRevoked(ctx context.Context, e Parting, revoked string, call connectors.Call) error {
	kind := "connection.revoked"
	if revoked != RevokedDone {
		kind = "connection.revoke." + revoked
	}
	event := Event{
		Kind: kind, MerchantID: e.Connection.MerchantID, ConnectionID: e.Connection.ID, Provider: e.Connection.Provider,
	}
	event.addCall(call)
	event.Note = revoked
	return d.AddEvent(ctx, event)
}

// Receipt is what ending a connection did and could not do.
type Receipt struct {
	At, RemainsUntil time.Time
	Revoked          string // one of the Revoked words
	Actor, By        string // who ended it: role and name
}

// ConnectionReceipt is the receipt of a connection that has ended.
func (d *DB) ConnectionReceipt(ctx context.Context, c Connection) (Receipt, error) {
	r := Receipt{At: c.DisconnectedAt, Revoked: RevokedFailed}
	rows, err := d.pool.Query(ctx, `
		SELECT e.kind, e.note, e.actor, coalesce(nullif(u.name, ''), u.email, '') FROM events e LEFT JOIN users u ON u.id = e.actor_id
		WHERE e.connection_id = $1 AND e.at >= $2 AND (e.kind = 'connection.disconnected' OR e.kind LIKE 'connection.revoke%') ORDER BY e.at, e.id`,
		c.ID, c.DisconnectedAt)
	if err != nil {
		return r, fmt.Errorf("read receipt: %w", err)
	}
	var kind, note, actor, by string
	_, err = pgx.ForEachRow(rows, []any{&kind, &note, &actor, &by}, func() error {
		if kind != "connection.disconnected" {
			r.Revoked = note
			return nil
		}
		r.Actor, r.By = actor, by
		if until, err := time.Parse(time.RFC3339, note); err == nil {
			r.RemainsUntil = until
		}
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("read receipt: %w", err)
	}
	return r, nil
}

// Owned is a live connection as its merchant's list shows it.
type Owned struct {
	Connection
	RefreshExpiresAt time.Time
	RefreshFixed     bool // renewing does not move RefreshExpiresAt: the merchant must come back by then
}

// MerchantConnections returns a merchant's live connections, oldest first.
func (d *DB) MerchantConnections(ctx context.Context, merchant ID) ([]Owned, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+connectionColumns+`, g.refresh_expires_at, coalesce(g.refresh_fixed, false)
		FROM connections c LEFT JOIN grants g ON g.connection_id = c.id
		WHERE c.merchant_id = $1 AND c.disconnected_at IS NULL ORDER BY c.connected_at, c.id`, merchant)
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Owned, error) {
		var o Owned
		var refreshExpires *time.Time
		targets, finish := connectionTargets(&o.Connection)
		if err := row.Scan(append(targets, &refreshExpires, &o.RefreshFixed)...); err != nil {
			return o, err
		}
		o.RefreshExpiresAt = timeOrZero(refreshExpires)
		return o, finish()
	})
	if err != nil {
		return nil, fmt.Errorf("read connections: %w", err)
	}
	return list, nil
}

// Whole is a connection with all that its page shows, save secrets.
type Whole struct {
	Connection
	Merchant, ExternalID                   string
	ExpiresAt, RefreshExpiresAt, RefreshAt time.Time
	RefreshedAt, UsedAt, LeasedUntil       time.Time
	UsedBy                                 string // the key's name
	Generation, Epoch                      int64
	Failures                               int
	RefreshFixed                           bool // renewing does not move RefreshExpiresAt
}

// WholeConnection reads one connection. merchant restricts whose it may be, zero for staff.
func (d *DB) WholeConnection(ctx context.Context, id, merchant ID) (Whole, error) {
	var w Whole
	var expires, refreshExpires, refresh, refreshed, used, leased *time.Time
	targets, finish := connectionTargets(&w.Connection)
	err := d.pool.QueryRow(ctx, `SELECT `+connectionColumns+`, m.name, coalesce(m.external_id, ''), g.expires_at, g.refresh_expires_at, g.refresh_at,
			g.refreshed_at, g.used_at, g.leased_until, coalesce(k.name, ''), coalesce(g.generation, 0), coalesce(g.epoch, 0), coalesce(g.failures, 0), coalesce(g.refresh_fixed, false)
		FROM connections c JOIN merchants m ON m.id = c.merchant_id LEFT JOIN grants g ON g.connection_id = c.id LEFT JOIN api_keys k ON k.id = g.used_by
		WHERE c.id = $1 AND ($2::uuid IS NULL OR c.merchant_id = $2)`, id, nullID(merchant)).
		Scan(append(targets, &w.Merchant, &w.ExternalID, &expires, &refreshExpires, &refresh, &refreshed, &used, &leased, &w.UsedBy,
			&w.Generation, &w.Epoch, &w.Failures, &w.RefreshFixed)...)
	if err != nil {
		if errors.Is(err, pgx.ErrNoRows) {
			return w, ErrNotFound
		}
		return w, fmt.Errorf("read connection: %w", err)
	}
	w.ExpiresAt, w.RefreshExpiresAt, w.RefreshAt = timeOrZero(expires), timeOrZero(refreshExpires), timeOrZero(refresh)
	w.RefreshedAt, w.UsedAt, w.LeasedUntil = timeOrZero(refreshed), timeOrZero(used), timeOrZero(leased)
	return w, finish()
}

// Names returns what people and keys are called, by id, for the lines of a timeline.
func (d *DB) Names(ctx context.Context, ids []ID) (map[ID]string, error) {
	names := make(map[ID]string, len(ids))
	rows, err := d.pool.Query(ctx, `SELECT id, coalesce(nullif(name, ''), email) FROM users WHERE id = ANY ($1)
		UNION ALL SELECT id, name FROM api_keys WHERE id = ANY ($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	var id ID
	var name string
	if _, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error { names[id] = name; return nil }); err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	return names, nil
}

// FlowsOf returns the latest attempts that made, renewed or meant to renew a connection, newest first.
func (d *DB) FlowsOf(ctx context.Context, c Connection, limit int) ([]Flow, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+flowColumns+` FROM flows f
		WHERE f.merchant_id = $1 AND (f.result_id = $2 OR f.connection_id = $2) ORDER BY f.created_at DESC LIMIT $3`, c.MerchantID, c.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("read flows: %w", err)
	}
	flows, err := pgx.CollectRows(rows, scanFlow)
	if err != nil {
		return nil, fmt.Errorf("read flows: %w", err)
	}
	return flows, nil
}

// FlowEvents returns what happened in a flow, newest first.
func (d *DB) FlowEvents(ctx context.Context, f Flow) ([]Event, error) {
	rows, err := d.pool.Query(ctx, `SELECT `+eventColumns+` FROM events
		WHERE merchant_id = $1 AND flow_id = $2 AND at BETWEEN $3 AND $4 AND kind NOT LIKE 'refresh.%' ORDER BY at DESC, id DESC LIMIT 200`,
		f.MerchantID, f.ID, f.CreatedAt, f.TouchedAt.Add(time.Hour))
	if err != nil {
		return nil, fmt.Errorf("read events of flow: %w", err)
	}
	events, err := pgx.CollectRows(rows, scanEvent)
	if err != nil {
		return nil, fmt.Errorf("read events of flow: %w", err)
	}
	return events, nil
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

// Ready says whether the database answers, its schema is there and the keyset opens it.
func (d *DB) Ready(ctx context.Context) error { return d.checkKeyset(ctx) }
