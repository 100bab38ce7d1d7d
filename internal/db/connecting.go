package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
)

// ConnectOffer is what the user may choose for a flow in StageChoosing.
type ConnectOffer struct {
	Why           Question
	Account       connectors.Account // the one that the provider gave access to, with every detail
	Before        Connection         // AskDiffers: the connection, with its present account
	HasConnection bool               // AskDiffers: the account has a connection of its own already
	Options       []Choice
}

// Question is why the user is asked before an account is connected; "" if there is nothing to ask.
type Question string

// The questions.
const (
	AskConfirm   Question = "confirm"           // whether this is the right account
	AskDiffers   Question = "differs"           // the account is not that of the connection to reconnect
	AskConnected Question = "already-connected" // the account has a connection, which would be renewed
)

// Choice is the user's answer; "" before there is one.
type Choice string

// The choices.
const (
	ChooseConnect  Choice = "connect"
	ChooseReplace  Choice = "replace"   // the connection's account becomes this one
	ChooseKeepBoth Choice = "keep-both" // the account gets a connection of its own
	ChooseCancel   Choice = "cancel"
)

// candidates are the connections that a flow may renew or replace; each may be nil.
type candidates struct {
	asked  *Connection // the one that the user asked to reconnect
	same   *Connection // the account's
	before *Connection // the one that was connected under the same person's id, before it was known which place it is: maybe the account's
}

// offer returns what may be chosen.
func offer(f Flow, account connectors.Account, c candidates) ConnectOffer {
	o := ConnectOffer{Account: account}
	renewed := c.asked != nil && (c.asked == c.same || c.asked == c.before && c.same == nil)
	switch {
	case account.ID == "" && account.Own:
		o.Options = []Choice{ChooseConnect, ChooseCancel}
	case account.ID == "", c.asked != nil && c.same == nil && c.asked.nameless():
		o.Why, o.Options = AskConfirm, []Choice{ChooseConnect, ChooseCancel}
	case c.asked != nil && !renewed:
		o.Why, o.Before, o.HasConnection, o.Options = AskDiffers, *c.asked, c.same != nil, []Choice{ChooseReplace, ChooseKeepBoth, ChooseCancel}
	case c.asked == nil && c.same != nil:
		o.Why, o.Options = AskConnected, []Choice{ChooseConnect, ChooseCancel}
	case c.asked == nil && c.before != nil:
		o.Why, o.Options = AskConnected, []Choice{ChooseConnect, ChooseKeepBoth, ChooseCancel}
	default:
		o.Options = []Choice{ChooseConnect, ChooseCancel}
	}
	if f.LinkID != (pg.ID{}) && o.Why == AskDiffers { // a link to reconnect is for its one connection
		o.Options = slices.DeleteFunc(o.Options, func(c Choice) bool { return c == ChooseKeepBoth || c == ChooseReplace && o.HasConnection })
	}
	return o
}

// FlowOffer returns what the user may choose at present. It returns ErrWrongStage if the flow does not wait for a choice.
func (d *DB) FlowOffer(ctx context.Context, f Flow) (ConnectOffer, error) {
	s, err := d.openFlow(f)
	if err != nil {
		return ConnectOffer{}, err
	}
	if s.Grant == nil {
		return ConnectOffer{}, ErrWrongStage
	}
	c, err := candidatesOf(ctx, d.Pool, f, s.Grant.Account, "")
	if err != nil {
		return ConnectOffer{}, err
	}
	o := offer(f, s.Grant.Account, c)
	if o.Why == "" {
		o.Why = AskConfirm // a page that shows the offer asks
	}
	return o, nil
}

// candidatesOf reads the connections that a flow may renew or replace with an account. lock is FOR UPDATE, or nothing.
func candidatesOf(ctx context.Context, q pg.Querier, f Flow, account connectors.Account, lock string) (c candidates, err error) {
	found, err := pg.Collect(ctx, q, "read what a flow may renew", scanConnection, `SELECT `+connectionColumns+` FROM connections c
		WHERE c.merchant_id = $1 AND c.provider = $2 AND c.environment = $3 AND c.disconnected_at IS NULL
			AND (c.account_id = $4 OR c.id = $5 OR c.account_id = $6 AND c.account_values = '{}')
		ORDER BY c.id `+lock, f.MerchantID, f.Provider, f.Environment, f.Account.ID, f.ConnectionID, account.UserID)
	for i := range found {
		one := &found[i]
		if one.ID == f.ConnectionID {
			c.asked = one
		}
		switch {
		case one.Account.ID == account.ID:
			c.same = one
		case account.Was(one.Account):
			c.before = one
		}
	}
	return c, err
}

// nameless reports whether the provider gave the connection's account no id when it was connected.
func (c Connection) nameless() bool { return c.Account.ID == c.ID.String() }

// accountLock is held to the end of the transaction that begins to revoke an account. It is the first lock that a transaction takes.
const accountLock = `SELECT pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2 || ' ' || $3, 0))`

// connectLocks are held to the end of a transaction that connects an account, so that it and a revocation do not run at the same
// time, nor two flows of one merchant. Flows of different merchants do not wait for each other.
const connectLocks = `SELECT pg_advisory_xact_lock_shared(hashtextextended($1 || ' ' || $2 || ' ' || $3, 0)),
	pg_advisory_xact_lock(hashtextextended($1 || ' ' || $2 || ' ' || $3 || ' ' || $4, 0))`

// ConnectResult is the result of Connect.
type ConnectResult struct {
	Connection Connection
	Outcome    status.End
	isNew      bool        // it was not connected before
	Replaced   *Revocation // the account that was replaced, whose access is to be revoked; nil if none was
}

// Connect does what the user chose for a flow in StageChoosing or, with choice "", connects if there is nothing to ask: one
// transaction writes the connection and its grant and ends the flow. info is the provider's. jobs takes the mail
// to the user and the revocation of an account that is replaced; it may be nil. It returns ErrMustChoose if the choice is not one of the present offer,
// ErrRevoking while the account's access is being revoked, ErrRevoked if it was revoked after the grant was obtained, which ends the flow,
// and ErrWrongStage if the flow is in another stage. A flow of a connect link that is to be confirmed waits for ConfirmConnectLink instead: the result is zero.
func (d *DB) Connect(ctx context.Context, f Flow, choice Choice, by audit.Actor, info connectors.Info, jobs Jobs) (ConnectResult, error) {
	var made ConnectResult
	err := d.RetryOnDeadlock(ctx, func(tx pgx.Tx) (err error) {
		made, err = d.connect(ctx, tx, f, choice, by, info, false)
		if err != nil {
			return err
		}
		return d.enqueueConnected(ctx, tx, made, jobs)
	})
	var noted error
	switch {
	case errors.Is(err, ErrMustChoose) && choice == "":
		noted = d.requireChoice(ctx, f)
	case errors.Is(err, ErrRevoked):
		noted = d.EndFlow(ctx, f, status.StageFailed, status.EndInterrupted, "", nil, by)
	}
	if noted != nil {
		err = noted
	}
	return made, err
}

// enqueueConnected enqueues what follows from a connection that was made: the mail to who connected an account that was not connected
// before, and the revocation of one that was replaced. jobs may be nil.
func (d *DB) enqueueConnected(ctx context.Context, tx pgx.Tx, made ConnectResult, jobs Jobs) error {
	if jobs == nil {
		return nil
	}
	if made.isNew {
		m := notify.Mail{Kind: notify.MailConnected, User: made.Connection.ConnectedBy, Connections: []pg.ID{made.Connection.ID}}
		if err := jobs.EnqueueMail(ctx, tx, m); err != nil {
			return fmt.Errorf("enqueue %s: %w", m.Kind, err)
		}
	}
	if made.Replaced == nil {
		return nil
	}
	return jobs.EnqueueRevocation(ctx, tx, made.Replaced.Connection, d.Now())
}

func (d *DB) connect(ctx context.Context, tx pgx.Tx, f Flow, choice Choice, by audit.Actor, info connectors.Info, confirmed bool) (ConnectResult, error) {
	now := d.Now()
	b := &pgx.Batch{}
	b.Queue(connectLocks, f.Provider, f.Environment, f.Account.ID, f.MerchantID.String())
	b.Queue(`SELECT `+flowColumns+` FROM flows f WHERE f.id = $1 FOR UPDATE`, f.ID).Query(func(rows pgx.Rows) (err error) {
		f, err = pgx.CollectExactlyOneRow(rows, scanFlow)
		return err
	})
	var revokedUntil time.Time
	b.Queue(`SELECT until FROM revocations WHERE provider = $1 AND environment = $2 AND account_id = $3`, f.Provider, f.Environment, accountHash(f.Account.ID)).
		Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&revokedUntil}, func() error { return nil })
			return err
		})
	err := tx.SendBatch(ctx, b).Close()
	if errors.Is(err, pgx.ErrNoRows) { // its merchant was erased
		return ConnectResult{}, ErrWrongStage
	}
	if err != nil {
		return ConnectResult{}, fmt.Errorf("connect: %w", err)
	}
	stage := status.StageChoosing
	if confirmed {
		stage = status.StageConfirming
	}
	if f.Stage != stage || f.isOverdue(now) {
		return ConnectResult{}, ErrWrongStage
	}
	confirms := false
	if f.LinkID != (pg.ID{}) {
		var err error
		if confirms, err = d.linkOfFlow(ctx, tx, f); err != nil {
			return ConnectResult{}, err
		}
	}
	s, err := d.openFlow(f)
	if err != nil {
		return ConnectResult{}, err
	}
	switch {
	case revokedUntil.After(now):
		return ConnectResult{}, ErrRevoking
	case !s.Obtained.After(revokedUntil):
		return ConnectResult{}, ErrRevoked
	case s.Grant == nil:
		return ConnectResult{}, ErrWrongStage
	}
	found, err := candidatesOf(ctx, tx, f, s.Grant.Account, "FOR UPDATE")
	if err != nil {
		return ConnectResult{}, err
	}
	asked, same := found.asked, found.same
	o := offer(f, s.Grant.Account, found)
	switch {
	case choice == "" && o.Why == "":
		choice = ChooseConnect
	case !slices.Contains(o.Options, choice):
		return ConnectResult{}, ErrMustChoose
	}
	if confirms && !confirmed {
		return ConnectResult{}, d.awaitConfirmation(ctx, tx, f, s, choice, by)
	}

	made := ConnectResult{Outcome: status.EndRenewed}
	target := same
	switch {
	case choice == ChooseReplace && same != nil:
		ended, err := d.disconnect(ctx, tx, *asked, by, "replaced")
		if err != nil {
			return ConnectResult{}, err
		}
		made.Outcome, made.Replaced = status.EndReplaced, &ended
	case choice == ChooseReplace:
		ended, err := d.revocationOf(ctx, tx, *asked)
		if err != nil {
			return ConnectResult{}, err
		}
		made.Outcome, made.Replaced, target = status.EndReplaced, &ended, asked
	case choice == ChooseKeepBoth:
		made.Outcome = status.EndKeptBoth
	case target == nil && asked != nil:
		target = asked // the provider names nothing, or names the place for the first time
	case target == nil:
		target = found.before
	}
	existed := target != nil
	if !existed {
		target = &Connection{ID: pg.NewID(), MerchantID: f.MerchantID, Provider: f.Provider, Environment: f.Environment, ConnectedAt: now}
		if made.Outcome == status.EndRenewed {
			made.Outcome = status.EndConnected
		}
	}
	made.Connection, made.isNew = *target, !existed || !target.DisconnectedAt.IsZero()
	c := &made.Connection
	account := s.Grant.Account
	if account.ID == "" {
		account.ID = c.ID.String()
	}
	c.Scopes = GrantedScopes{Granted: s.Grant.Scope, Missing: s.Grant.Missing}
	c.Account, c.ConnectedBy, c.Problem, c.ProblemSince, c.FailingSince = account, f.UserID, "", time.Time{}, time.Time{}
	s.Grant.Account = account
	var was priorGrant
	if existed {
		if was, err = lockPriorGrant(ctx, tx, c.ID); err != nil {
			return ConnectResult{}, err
		}
	}
	b = &pgx.Batch{}
	if target == asked && made.Outcome == status.EndReplaced { // another account, which has not been given the nickname
		c.Nickname = ""
		b.Queue(`UPDATE connections SET nickname = '' WHERE id = $1`, c.ID)
	}
	if err := queueConnection(b, *c); err != nil {
		return ConnectResult{}, err
	}
	if err := d.queueGrant(b, *c, *s.Grant, was, s.Obtained, info); err != nil {
		return ConnectResult{}, err
	}
	b.Queue(`UPDATE flows SET stage = 'connected', outcome = $2, sealed = NULL, result_id = $3, touched_at = $4 WHERE id = $1`,
		f.ID, made.Outcome, c.ID, now)
	e := f.event(status.ConnectionConnected, by)
	switch {
	case made.Outcome == status.EndReplaced && same == nil:
		e.Kind = status.ConnectionReplaced
	case existed:
		e.Kind = status.ConnectionReconnected
	}
	e.ConnectionID, e.Code = c.ID, string(choice)
	d.Audit.Queue(b, e)
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return ConnectResult{}, fmt.Errorf("write connection: %w", err)
	}
	return made, nil
}

// queueConnection adds to a batch a connection with its merchant's sort key and its search document. The trigger
// connections_count_inserted counts it in connection_counts, connections_count_updated every change of its health.
func queueConnection(b *pgx.Batch, c Connection) error {
	details, err := json.Marshal(append([]connectors.Detail{}, c.Account.Details...))
	if err != nil {
		return fmt.Errorf("encode details: %w", err)
	}
	input := c.Account.Input
	if input == nil {
		input = map[string]string{}
	}
	b.Queue(`INSERT INTO connections (id, merchant_id, merchant_key, provider, environment, account_id, account_name, details, account_values, account_input, scopes_granted, scopes_missing,
			connected_by, connected_at)
		VALUES ($1, $2, (SELECT left(lower(name), 200) FROM merchants WHERE id = $2), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (id) DO UPDATE SET account_id = excluded.account_id, account_name = excluded.account_name, details = excluded.details,
			account_values = excluded.account_values, account_input = excluded.account_input, scopes_granted = excluded.scopes_granted, scopes_missing = excluded.scopes_missing,
			connected_by = excluded.connected_by, problem = '', problem_since = NULL, failing_since = NULL`,
		c.ID, c.MerchantID, c.Provider, c.Environment, c.Account.ID, c.Account.Name, details, c.Account.Values, input, append([]string{}, c.Scopes.Granted...),
		append([]string{}, c.Scopes.Missing...),
		c.ConnectedBy, c.ConnectedAt)
	search.QueueDocument(b, c.ID, SearchText(c.Account))
	return nil
}

// SearchText returns the text by which a connection to an account is found.
func SearchText(a connectors.Account) string {
	values := []string{a.ID, a.Name}
	for _, d := range append(a.Values.Texts(), a.Details...) {
		values = append(values, d.Value)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Input)) {
		values = append(values, a.Input[name])
	}
	return search.Text(values...)
}
