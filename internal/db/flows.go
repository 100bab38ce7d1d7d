package db

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// Flow is one attempt to connect, from the click to its outcome.
type Flow struct {
	ID           pg.ID
	Reference    string // for people: K7M2-4QXD
	UserID       pg.ID  // zero for a flow of a connect link
	LinkID       pg.ID  // zero for a flow of a user
	MerchantID   pg.ID
	Provider     string
	Environment  string
	ConnectionID pg.ID // the connection to reconnect; zero for a new one
	Stage        status.Stage
	Outcome      status.End
	Account      connectors.Account // the one that waits for a choice or was connected; without details
	ResultID     pg.ID              // the connection it made or renewed
	CreatedAt    time.Time
	TouchedAt    time.Time // when the stage last changed
	ExpiresAt    time.Time // of its stage; for EndRateLimited: when it may be tried again

	stateHash   []byte
	browserHash []byte
	answerHash  []byte
	sealed      []byte
}

// How long a flow may be in its stages.
const (
	beginTimeout    = 10 * time.Minute
	answerTimeout   = 10 * time.Minute // for the user to sign in again
	exchangeTimeout = time.Minute
	chooseTimeout   = 30 * time.Minute
	ReplayFor       = 24 * time.Hour // how long a repeated callback shows the outcome
)

// keepFlows is how long flows are kept for support.
const keepFlows = 400 * 24 * time.Hour

// Errors of flows.
var (
	ErrWrongStage = errors.New("the flow is in another stage")
	ErrMustChoose = errors.New("the user must choose, or choose again")
	ErrRevoking   = errors.New("this account's access is being ended at the provider")
	ErrRevoked    = errors.New("this access was ended at the provider before it was saved")
)

const flowColumns = `f.id, f.reference, f.user_id, f.link_id, f.merchant_id, f.provider, f.environment, f.connection_id, f.stage, f.outcome, f.account_id,
	f.account_name, f.result_id, f.created_at, f.touched_at, f.expires_at, f.state_hash, f.browser_hash, f.answer_hash, f.sealed`

func scanFlow(row pgx.CollectableRow) (Flow, error) {
	var f Flow
	err := row.Scan(&f.ID, &f.Reference, &f.UserID, &f.LinkID, &f.MerchantID, &f.Provider, &f.Environment, &f.ConnectionID, &f.Stage, &f.Outcome, &f.Account.ID,
		&f.Account.Name, &f.ResultID, &f.CreatedAt, &f.TouchedAt, &f.ExpiresAt, &f.stateHash, &f.browserHash, &f.answerHash, &f.sealed)
	return f, err
}

// HasBrowser reports whether secret is that of the browser which began the flow.
func (f Flow) HasBrowser(secret pg.Secret) bool {
	return subtle.ConstantTimeCompare(secret.Hash(), f.browserHash) == 1
}

// By returns who began the flow: its user, or its connect link.
func (f Flow) By() pg.ID {
	if f.LinkID != (pg.ID{}) {
		return f.LinkID
	}
	return f.UserID
}

// Reconnects reports whether the flow is to reconnect a connection.
func (f Flow) Reconnects() bool { return f.ConnectionID != (pg.ID{}) }

// HasState reports whether state is the flow's.
func (f Flow) HasState(state string) bool {
	return state != "" && subtle.ConstantTimeCompare(pg.Secret(state).Hash(), f.stateHash) == 1
}

// sealedFlow is the sealed part of a flow: the verifier and what was typed, in StageAnswered also the callback's query, in StageChoosing the grant, and in
// StageConfirming also the choice and the code that the platform is to send.
type sealedFlow struct {
	Verifier string            `json:"verifier,omitempty"`
	Inputs   map[string]string `json:"inputs,omitempty"` // what the merchant typed before leaving: it goes into addresses, and comes from nowhere else
	Answer   string            `json:"answer,omitempty"`
	Grant    *connectors.Grant `json:"grant,omitempty"`
	Obtained time.Time         `json:"obtained,omitzero"`
	Proven   bool              `json:"proven,omitempty"` // the callback had the flow's state, and Connect has found nothing to ask
	Choice   Choice            `json:"choice,omitempty"`
	Code     string            `json:"code,omitempty"`
}

func (d *DB) sealFlow(f Flow, s sealedFlow) ([]byte, error) {
	plain, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode flow: %w", err)
	}
	return d.Keyset.Seal(plain, f.place())
}

func (f Flow) place() seal.Place {
	return seal.Place{Table: "flows", Column: "sealed", Row: f.ID, Merchant: f.MerchantID}
}

func (d *DB) openFlow(f Flow) (sealedFlow, error) {
	var s sealedFlow
	plain, err := d.Unseal(f.sealed, f.place())
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(plain, &s); err != nil {
		return s, fmt.Errorf("decode flow %s: %w", f.ID, seal.ErrSealed)
	}
	return s, nil
}

// codeHash returns the hash of a code or authToken that is stored. It covers the provider, since two may give the same code.
func codeHash(provider, code string) []byte {
	sum := sha256.Sum256([]byte(provider + "\x00" + code))
	return sum[:]
}

// NewFlow has the values of a flow that BeginFlow adds.
type NewFlow struct {
	ID                    pg.ID
	UserID, MerchantID    pg.ID
	LinkID                pg.ID     // the connect link's; then UserID is zero
	Until                 time.Time // when the connect link expires
	Provider, Environment string
	ConnectionID          pg.ID     // to reconnect; zero for a new one
	State, Browser        pg.Secret // only their hashes are kept
	Verifier              string
	Inputs                map[string]string // what the merchant typed, if the browser is sent to the provider
	Keyed                 bool              // the merchant types credentials: no browser is sent to the provider, and the flow is exchanged at once
	By                    audit.Actor
}

// BeginFlow adds a flow.
func (d *DB) BeginFlow(ctx context.Context, n NewFlow) (Flow, error) {
	now := d.Now()
	f := Flow{
		ID: n.ID, UserID: n.UserID, LinkID: n.LinkID, MerchantID: n.MerchantID, Provider: n.Provider, Environment: n.Environment, ConnectionID: n.ConnectionID,
		Stage: status.StageBegun, CreatedAt: now, TouchedAt: now, ExpiresAt: now.Add(beginTimeout), browserHash: n.Browser.Hash(),
	}
	if !n.Until.IsZero() && n.Until.Before(f.ExpiresAt) {
		f.ExpiresAt = n.Until
	}
	if n.Keyed {
		f.Stage = status.StageExchanging
	}
	sealed, err := d.sealFlow(f, sealedFlow{Verifier: n.Verifier, Inputs: n.Inputs})
	if err != nil {
		return f, err
	}
	f.stateHash = n.State.Hash()
	return d.insertFlow(ctx, f, sealed, f.event(status.FlowBegun, n.By))
}

// RefuseFlow adds a failed flow for a callback that was rejected, so that the user has a reference to quote. It changes no other flow.
func (d *DB) RefuseFlow(ctx context.Context, n NewFlow, outcome status.End) (Flow, error) {
	now := d.Now()
	f := Flow{
		ID: pg.NewID(), UserID: n.UserID, MerchantID: n.MerchantID, Provider: n.Provider, Environment: n.Environment, Stage: status.StageFailed, Outcome: outcome,
		CreatedAt: now, TouchedAt: now, ExpiresAt: now, stateHash: pg.NewSecret().Hash(), browserHash: pg.NewSecret().Hash(),
	}
	e := f.event(status.FlowFailed, n.By)
	e.Code = string(outcome)
	return d.insertFlow(ctx, f, nil, e)
}

func (d *DB) insertFlow(ctx context.Context, f Flow, sealed []byte, e audit.Event) (Flow, error) {
	for {
		f.Reference = newReference()
		e.Reference = f.Reference
		b := &pgx.Batch{}
		b.Queue(`INSERT INTO flows (id, reference, state_hash, browser_hash, user_id, merchant_id, provider, environment, connection_id, stage, outcome,
				sealed, created_at, touched_at, expires_at, link_id)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13, $14, $15)`,
			f.ID, f.Reference, f.stateHash, f.browserHash, f.UserID, f.MerchantID, f.Provider, f.Environment, f.ConnectionID, f.Stage, f.Outcome,
			sealed, f.CreatedAt, f.ExpiresAt, f.LinkID)
		d.Audit.Queue(b, e)
		err := d.Pool.SendBatch(ctx, b).Close()
		if pg.Violates(err, "flows_reference_key") {
			continue
		}
		if err != nil {
			return f, fmt.Errorf("write flow: %w", err)
		}
		return f, nil
	}
}

// event returns an event of this flow.
func (f Flow) event(kind status.Kind, by audit.Actor) audit.Event {
	return audit.Event{
		Kind: kind, Actor: by, MerchantID: f.MerchantID, ConnectionID: f.ConnectionID, FlowID: f.ID, Provider: f.Provider, Reference: f.Reference,
	}
}

// Callback is what finds the flow of a browser that a provider sent back.
type Callback struct {
	Provider, Environment string
	Code, State           string
	Browser               pg.Secret // if it came without a state from a provider that may not send it back; else ""
}

// FlowOfCallback returns the flow of a callback: the one that was claimed with the same code, else the one with this state, else the newest
// one that the browser began, those in StageBegun before the others. A browser finds none once the provider has sent a state back. It
// returns ErrNotFound if there is none. A flow whose time is over is ended first.
func (d *DB) FlowOfCallback(ctx context.Context, c Callback) (Flow, error) {
	var spent, state, browser []byte
	if c.Code != "" {
		spent = codeHash(c.Provider, c.Code)
	}
	if c.State != "" {
		state = pg.Secret(c.State).Hash()
	}
	if c.Browser != "" {
		browser = c.Browser.Hash()
	}
	now := d.Now()
	return d.flow(ctx, `(f.provider = $1 AND f.answer_hash = $3) OR f.state_hash = $4
			OR (f.browser_hash = $5 AND f.created_at > $6 AND f.provider = $1
				AND NOT EXISTS (SELECT FROM providers WHERE name = $1 AND environment = $2 AND state_echoed))
		ORDER BY (f.provider = $1 AND f.answer_hash = $3) IS TRUE DESC, (f.stage = 'begun' AND f.expires_at > $7) DESC, f.created_at DESC LIMIT 1`,
		c.Provider, c.Environment, spent, state, browser, now.Add(-ReplayFor), now)
}

// FlowByReference returns the flow with a reference, as a user typed it. It returns ErrNotFound if there is none.
func (d *DB) FlowByReference(ctx context.Context, reference string) (Flow, error) {
	return d.flow(ctx, `f.reference = $1`, Reference(reference))
}

// WaitingFlows returns the flows of a user that wait for a choice, those that end first before the others. Flows of connect links are not among them.
func (d *DB) WaitingFlows(ctx context.Context, merchant, user pg.ID) ([]Flow, error) {
	return pg.Collect(ctx, d.Pool, "read flows", scanFlow, `SELECT `+flowColumns+` FROM flows f
		WHERE f.merchant_id = $1 AND f.user_id = $2 AND f.link_id IS NULL AND f.stage = 'choosing' AND f.sealed IS NOT NULL AND f.created_at > $3 AND f.expires_at > $4
		ORDER BY f.expires_at, f.id LIMIT 5`, merchant, user, d.Now().Add(-ReplayFor), d.Now())
}

// FlowByID returns a flow. It returns ErrNotFound if there is none.
func (d *DB) FlowByID(ctx context.Context, id pg.ID) (Flow, error) {
	return d.flow(ctx, `f.id = $1`, id)
}

func (d *DB) flow(ctx context.Context, where string, args ...any) (Flow, error) {
	f, err := pg.One(ctx, d.Pool, "read flow", scanFlow, `SELECT `+flowColumns+` FROM flows f WHERE `+where, args...)
	if err != nil || !f.isOverdue(d.Now()) {
		return f, err
	}
	if f.Stage == status.StageConfirming { // DropUnconfirmed ends it in a minute, and its grant is revoked
		f.Stage, f.Outcome = status.StageExpired, status.EndUnconfirmed
		return f, nil
	}
	if _, err := d.openFlow(f); errors.Is(err, seal.ErrUnknownKey) {
		return Flow{}, err
	}
	if _, err := d.ExpireFlows(ctx, f.ID); err != nil {
		return Flow{}, err
	}
	return d.flow(ctx, `f.id = $1`, f.ID)
}

// isOverdue reports whether a flow's stage has timed out, so that ExpireFlows ends it.
func (f Flow) isOverdue(now time.Time) bool {
	switch f.Stage {
	case status.StageExchanging:
		return !now.Before(f.TouchedAt.Add(exchangeTimeout))
	case status.StageBegun, status.StageAnswered, status.StageChoosing, status.StageConfirming:
		return !now.Before(f.ExpiresAt)
	default:
		return false
	}
}

// ExpireFlows ends the flows whose stage has timed out, of those given or of all, and deletes what is sealed in them. It returns how many it
// ended, at most 500 at a time. Those that a key has sealed which the keyset lacks are left to another process: what they hold may have to
// be kept. For all it also deletes flows older than keepFlows.
func (d *DB) ExpireFlows(ctx context.Context, only ...pg.ID) (n int, err error) {
	now := d.Now()
	var some []pg.ID
	if len(only) > 0 {
		some = only
	}
	err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		if err := d.keepUnchosenGrants(ctx, tx, now, some); err != nil {
			return err
		}
		ended, err := pg.Collect(ctx, tx, "lapse flows", scanFlow, `
			UPDATE flows f SET stage = CASE f.stage WHEN 'exchanging' THEN 'failed' ELSE 'expired' END,
				outcome = CASE f.stage WHEN 'exchanging' THEN 'interrupted' ELSE 'expired' END, sealed = NULL, touched_at = $1
			WHERE f.id IN (
				SELECT id FROM flows
				WHERE sealed IS NOT NULL AND ($2::uuid[] IS NULL OR id = ANY ($2)) AND NOT `+keyring.UnknownSeal("sealed", "$4")+`
					AND ((stage = 'exchanging' AND touched_at <= $3) OR (stage IN ('begun', 'answered', 'choosing') AND expires_at <= $1))
				ORDER BY expires_at LIMIT 500 FOR UPDATE SKIP LOCKED)
			RETURNING `+flowColumns, now, some, now.Add(-exchangeTimeout), d.KnownKeys())
		if err != nil {
			return err
		}
		n = len(ended)
		b := &pgx.Batch{}
		for _, f := range ended {
			e := f.event(f.Stage.Kind(), audit.System)
			e.Code = string(f.Outcome)
			d.Audit.Queue(b, e)
		}
		if len(only) == 0 {
			b.Queue(`DELETE FROM connect_links WHERE id IN (SELECT id FROM connect_links WHERE created_at < $1 ORDER BY created_at, id LIMIT 5000)`, now.Add(-keepFlows))
			b.Queue(`DELETE FROM revocations WHERE until < $1`, now.Add(-ReplayFor))
			b.Queue(`DELETE FROM flows WHERE id IN (SELECT id FROM flows WHERE created_at < $1 AND sealed IS NULL ORDER BY created_at LIMIT 5000)`, now.Add(-keepFlows))
		}
		return tx.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return 0, fmt.Errorf("lapse flows: %w", err)
	}
	return n, nil
}

// keepUnchosenGrants keeps the grants of flows that timed out before a choice was made, where their account is connected.
func (d *DB) keepUnchosenGrants(ctx context.Context, tx pgx.Tx, now time.Time, only []pg.ID) error {
	unchosen, err := pg.Collect(ctx, tx, "read flows", scanFlow, `SELECT `+flowColumns+` FROM flows f
		WHERE f.stage = 'choosing' AND f.sealed IS NOT NULL AND f.expires_at <= $1 AND ($2::uuid[] IS NULL OR f.id = ANY ($2))
			AND EXISTS (SELECT FROM connections c WHERE c.merchant_id = f.merchant_id AND c.provider = f.provider AND c.environment = f.environment
				AND c.account_id = f.account_id AND c.disconnected_at IS NULL)
			AND NOT `+keyring.UnknownSeal("f.sealed", "$3")+`
		ORDER BY f.expires_at LIMIT 500 FOR UPDATE OF f SKIP LOCKED`, now, only, d.KnownKeys())
	if err != nil {
		return err
	}
	for _, f := range unchosen {
		s, err := d.openFlow(f)
		if err != nil || s.Grant == nil { // one that does not open has nothing to keep
			continue
		}
		if err := d.keepLate(ctx, tx, f, *s.Grant); err != nil {
			return err
		}
	}
	return nil
}

// ClaimedFlow is a flow that the caller has claimed: no other request exchanges it.
type ClaimedFlow struct {
	Flow
	Verifier string
	Inputs   map[string]string
	Answer   string // the callback's query, if the user was signed out when it came
}

// ClaimFlow claims a flow in StageBegun or StageAnswered to be exchanged. It returns ErrWrongStage if another hit was quicker, or if the
// same code was given to another flow.
func (d *DB) ClaimFlow(ctx context.Context, f Flow, code string) (ClaimedFlow, error) {
	hash := f.answerHash
	if code != "" {
		hash = codeHash(f.Provider, code)
	}
	return d.claim(ctx, f, status.StageExchanging, hash, f.ExpiresAt, nil)
}

// AnswerFlow seals the query of a callback that came while the user was signed out, until they have signed in. It returns ErrWrongStage as
// ClaimFlow does.
func (d *DB) AnswerFlow(ctx context.Context, f Flow, code, query string) error {
	s, err := d.openFlow(f)
	if err != nil {
		return err
	}
	s.Answer = query
	sealed, err := d.sealFlow(f, s)
	if err != nil {
		return err
	}
	var hash []byte
	if code != "" {
		hash = codeHash(f.Provider, code)
	}
	expires := f.ExpiresAt
	if until := d.Now().Add(answerTimeout); until.After(expires) {
		expires = until
	}
	_, err = d.claim(ctx, f, status.StageAnswered, hash, expires, sealed)
	return err
}

func (d *DB) claim(ctx context.Context, f Flow, stage status.Stage, hash []byte, expires time.Time, sealed []byte) (ClaimedFlow, error) {
	if _, err := d.openFlow(f); errors.Is(err, seal.ErrUnknownKey) {
		return ClaimedFlow{}, err
	}
	rows, err := d.Pool.Query(ctx, `
		UPDATE flows f SET stage = $3, answer_hash = $4, expires_at = $5, touched_at = $6, sealed = coalesce($7, f.sealed)
		WHERE f.id = $1 AND f.stage = $2 AND f.expires_at > $6
		RETURNING `+flowColumns, f.ID, f.Stage, stage, hash, expires, d.Now(), sealed)
	if err != nil {
		return ClaimedFlow{}, fmt.Errorf("claim flow: %w", err)
	}
	f, err = pgx.CollectExactlyOneRow(rows, scanFlow)
	if errors.Is(err, pgx.ErrNoRows) || pg.Violates(err, "flows_answer") {
		return ClaimedFlow{}, ErrWrongStage
	}
	if err != nil {
		return ClaimedFlow{}, fmt.Errorf("claim flow: %w", err)
	}
	s, err := d.openFlow(f)
	if err != nil {
		return ClaimedFlow{}, err
	}
	return ClaimedFlow{Flow: f, Verifier: s.Verifier, Inputs: s.Inputs, Answer: s.Answer}, nil
}

// EndFlow ends a flow without a connection, and adds events of the calls that were made for it. reason is for staff: why it failed. It
// returns ErrWrongStage if the flow has ended already.
func (d *DB) EndFlow(ctx context.Context, f Flow, stage status.Stage, outcome status.End, reason string, calls []connectors.Call, by audit.Actor) error {
	return d.Tx(ctx, func(tx pgx.Tx) error { return d.endFlow(ctx, tx, f, stage, outcome, reason, calls, by) })
}

func (d *DB) endFlow(ctx context.Context, tx pgx.Tx, f Flow, stage status.Stage, outcome status.End, reason string, calls []connectors.Call, by audit.Actor) error {
	ended, err := pg.Exec(ctx, tx, "end flow", `
		UPDATE flows SET stage = $2, outcome = $3, sealed = NULL, touched_at = $4, expires_at = $6
		WHERE id = $1 AND stage = $5`, f.ID, stage, outcome, d.Now(), f.Stage, f.ExpiresAt)
	if err != nil {
		return err
	}
	b := &pgx.Batch{}
	d.queueCalls(b, f, calls)
	if ended == 1 {
		e := f.event(stage.Kind(), by)
		if outcome == status.EndCancelled {
			e.Kind = status.FlowCancelled
		}
		e.Code, e.Note = string(outcome), reason
		d.Audit.Queue(b, e)
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("end flow: %w", err)
	}
	if ended == 0 && len(calls) == 0 {
		return ErrWrongStage
	}
	return nil
}

// CancelFlow ends a flow whose user chose not to connect, and returns the unwanted grant. Where the merchant has the account connected,
// the grant is kept beside the connection's. It returns ErrWrongStage as EndFlow does.
func (d *DB) CancelFlow(ctx context.Context, f Flow, by audit.Actor) (connectors.Grant, error) {
	s, err := d.openFlow(f)
	if err != nil && !errors.Is(err, seal.ErrSealed) {
		return connectors.Grant{}, err
	}
	err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		if err := d.endFlow(ctx, tx, f, status.StageDenied, status.EndCancelled, "", nil, by); err != nil || s.Grant == nil {
			return err
		}
		return d.keepLate(ctx, tx, f, *s.Grant)
	})
	if err != nil || s.Grant == nil {
		return connectors.Grant{}, err
	}
	return *s.Grant, nil
}

// queueCalls adds an event of each call to the provider: its outcome, and nothing of the request and the answer.
func (d *DB) queueCalls(b *pgx.Batch, f Flow, calls []connectors.Call) {
	for _, c := range calls {
		e := f.event(status.KindOfCall(c.Name), audit.System)
		d.Audit.Queue(b, withCall(e, c))
	}
}

// withCall returns an event with the outcome of a call to the provider.
func withCall(e audit.Event, c connectors.Call) audit.Event {
	e.Outcome, e.Status, e.Code, e.Millis, e.Reference = c.Outcome, c.Status, c.Code, int(c.Took.Milliseconds()), c.Reference
	e.Note = cmp.Or(e.Note, c.Detail)
	return e
}

// Exchange is what a provider gave for a flow.
type Exchange struct {
	Grant    connectors.Grant
	Obtained time.Time // when the provider was asked, by our clock: the grant's lifetimes count from here
	Proven   bool      // the callback had the flow's state, or there was none: Connect may connect it without a choice
	Echoed   bool      // the callback had the state though its provider may not send it back: from now on one without it is rejected
	Calls    []connectors.Call
}

// KeepGrant seals a grant into its flow, which is then in StageChoosing. It returns ErrWrongStage if the flow has ended in between, and
// ErrNotFound if its merchant was erased.
func (d *DB) KeepGrant(ctx context.Context, f Flow, x Exchange) (Flow, error) {
	sealed, err := d.sealFlow(f, sealedFlow{Grant: &x.Grant, Obtained: x.Obtained, Proven: x.Proven})
	if err != nil {
		return f, err
	}
	now := d.Now()
	f.sealed, f.Account, f.TouchedAt, f.ExpiresAt = sealed, connectors.Account{ID: x.Grant.Account.ID, Name: x.Grant.Account.Name}, now, now.Add(chooseTimeout)
	var kept, exists bool
	err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error { // with an erasure of the merchant
		b := &pgx.Batch{}
		b.Queue(`UPDATE flows SET stage = 'choosing', sealed = $2, account_id = $3, account_name = $4, touched_at = $5, expires_at = $6
			WHERE id = $1 AND stage = 'exchanging'`, f.ID, sealed, f.Account.ID, f.Account.Name, f.TouchedAt, f.ExpiresAt,
		).Exec(func(tag pgconn.CommandTag) error { kept = tag.RowsAffected() == 1; return nil })
		b.Queue(`SELECT EXISTS (SELECT FROM flows WHERE id = $1)`, f.ID).QueryRow(func(row pgx.Row) error { return row.Scan(&exists) })
		if x.Echoed {
			b.Queue(`INSERT INTO providers (name, environment, state_echoed)
				SELECT $1, $2, true WHERE NOT EXISTS (SELECT FROM providers WHERE name = $1 AND environment = $2 AND state_echoed)
				ON CONFLICT (name, environment) DO UPDATE SET state_echoed = true`, f.Provider, f.Environment)
		}
		d.queueCalls(b, f, x.Calls)
		return tx.SendBatch(ctx, b).Close()
	})
	switch {
	case err != nil:
		return f, fmt.Errorf("keep grant: %w", err)
	case !exists:
		return f, pg.ErrNotFound
	case !kept:
		return f, ErrWrongStage
	}
	f.Stage = status.StageChoosing
	return f, nil
}

// NeedsNoChoice reports whether a flow may be connected without a choice: its state was proven, and Connect has found nothing to ask.
func (d *DB) NeedsNoChoice(f Flow) bool {
	if f.Stage != status.StageChoosing {
		return false
	}
	s, err := d.openFlow(f)
	return err == nil && s.Proven
}

// requireChoice notes that there is something to ask, so that the flow is connected only by the user's choice.
func (d *DB) requireChoice(ctx context.Context, f Flow) error {
	s, err := d.openFlow(f)
	if err != nil || !s.Proven {
		return err
	}
	s.Proven = false
	sealed, err := d.sealFlow(f, s)
	if err != nil {
		return err
	}
	_, err = pg.Exec(ctx, d.Pool, "note that a flow asks", `UPDATE flows SET sealed = $2 WHERE id = $1 AND stage = 'choosing'`, f.ID, sealed)
	return err
}

// FlowsOf returns the latest flows that made, renewed or were to renew a connection, newest first, at most limit.
func (d *DB) FlowsOf(ctx context.Context, c Connection, limit int) ([]Flow, error) {
	return pg.Collect(ctx, d.Pool, "read flows", scanFlow, `SELECT `+flowColumns+` FROM flows f
		WHERE f.merchant_id = $1 AND (f.result_id = $2 OR f.connection_id = $2) ORDER BY f.created_at DESC LIMIT $3`, c.MerchantID, c.ID, limit)
}
