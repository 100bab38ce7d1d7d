package db

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// Revocation is a disconnected connection with the grant it had, which its provider is to revoke. It is never stored.
type Revocation struct {
	Connection  Connection
	Grant       connectors.Grant // zero if there was none or it cannot be decrypted
	AccessUntil time.Time        // access tokens handed out before may work until then; zero when unknown
}

// Disconnect disconnects a connection and deletes its grant, before the provider is asked to revoke it. jobs takes the
// revocation and the mails to the merchant's users; it may be nil. ended is false if the connection was disconnected before. It returns ErrNotFound if there is no such
// connection, or if merchant is not zero and not its merchant, and seal.ErrUnknownKey if the keyset lacks the key of its grant.
func (d *DB) Disconnect(ctx context.Context, id, merchant pg.ID, by audit.Actor, jobs Jobs) (e Revocation, ended bool, err error) {
	err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		c, err := pg.One(ctx, tx, "read connection", scanConnection, `SELECT `+connectionColumns+` FROM connections c
			WHERE c.id = $1 AND ($2::uuid IS NULL OR c.merchant_id = $2) FOR UPDATE`, id, merchant)
		if err != nil {
			return err
		}
		e.Connection = c
		if !c.DisconnectedAt.IsZero() {
			return nil
		}
		ended = true
		if e, err = d.disconnect(ctx, tx, c, by, ""); err != nil || jobs == nil {
			return err
		}
		if err := jobs.EnqueueRevocation(ctx, tx, e.Connection, d.Now()); err != nil {
			return err
		}
		m := notify.Mail{Kind: notify.MailDisconnected, At: e.Connection.DisconnectedAt, Connections: []pg.ID{c.ID}}
		_, err = notify.Users(ctx, tx, m, jobs, `merchant_id = $1`, c.MerchantID)
		return err
	})
	return e, ended, err
}

// disconnect disconnects a connection whose row the caller has locked. why is the event's code.
func (d *DB) disconnect(ctx context.Context, tx pgx.Tx, c Connection, by audit.Actor, why string) (Revocation, error) {
	e, err := d.revocationOf(ctx, tx, c)
	if err != nil {
		return e, err
	}
	now := d.Now()
	e.Connection.DisconnectedAt = now
	if err := d.dropGrant(ctx, tx, c.ID); err != nil {
		return e, err
	}
	if _, err := pg.Exec(ctx, tx, "disconnect", `UPDATE connections SET disconnected_at = $2, failing_since = NULL WHERE id = $1`, c.ID, now); err != nil {
		return e, err
	}
	event := audit.Event{At: now, Kind: status.ConnectionDisconnected, MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider, Code: why, Actor: by}
	if !e.AccessUntil.IsZero() {
		event.Note = e.AccessUntil.Format(time.RFC3339)
	}
	return e, d.Audit.Add(ctx, tx, event)
}

// revocationOf opens a connection's grant and locks its row. It returns seal.ErrUnknownKey if the keyset lacks the grant's key.
func (d *DB) revocationOf(ctx context.Context, tx pgx.Tx, c Connection) (Revocation, error) {
	e := Revocation{Connection: c}
	var sealed []byte
	var generation int64
	var until time.Time
	err := tx.QueryRow(ctx, `SELECT sealed, generation, expires_at FROM grants WHERE connection_id = $1 FOR UPDATE`, c.ID).
		Scan(&sealed, &generation, &until)
	if errors.Is(err, pgx.ErrNoRows) {
		return e, nil
	}
	if err != nil {
		return e, fmt.Errorf("read grant: %w", err)
	}
	if until.After(d.Now()) {
		e.AccessUntil = until
	}
	switch g, err := d.OpenGrant(sealed, GrantPlace(c.ID, c.MerchantID, generation)); {
	case err == nil:
		e.Grant = g
	case errors.Is(err, seal.ErrUnknownKey): // another process can have the provider revoke it
		return e, err
	}
	return e, nil
}

// revokeTimeout is how long a revocation locks an account at most, also if the process dies.
const revokeTimeout = 30 * time.Second

// BeginRevocation locks an account whose access is to be revoked as a whole. It returns false if any merchant has the account
// connected or has a choice about it open: then its access must not be revoked.
func (d *DB) BeginRevocation(ctx context.Context, provider, environment, account string) (bool, error) {
	now := d.Now()
	var begun int64
	err := d.Tx(ctx, func(tx pgx.Tx) (err error) {
		if _, err := pg.Exec(ctx, tx, "lock account", accountLock, provider, environment, account); err != nil {
			return err
		}
		begun, err = pg.Exec(ctx, tx, "begin revocation", `
			INSERT INTO revocations (provider, environment, account_id, until)
			SELECT $1, $2, $6, $5
			WHERE NOT EXISTS (SELECT FROM connections WHERE provider = $1 AND environment = $2 AND account_id = $3 AND disconnected_at IS NULL)
				AND NOT EXISTS (SELECT FROM flows WHERE provider = $1 AND environment = $2 AND account_id = $3 AND stage IN ('choosing', 'confirming') AND expires_at > $4)
			ON CONFLICT (provider, environment, account_id) DO UPDATE SET until = excluded.until`,
			provider, environment, account, now, now.Add(revokeTimeout), accountHash(account))
		return err
	})
	return begun == 1, err
}

// accountHash is what the table revocations knows an account by: it may be that of a merchant who was erased.
func accountHash(account string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(account)))
}

// EndRevocation releases the lock. With spoiled the provider has or may have revoked the access, so grants obtained before now are
// not connected.
func (d *DB) EndRevocation(ctx context.Context, provider, environment, account string, spoiled bool) error {
	until := time.Time{}
	if spoiled {
		until = d.Now()
	}
	_, err := pg.Exec(ctx, d.Pool, "end revocation", `UPDATE revocations SET until = $4 WHERE provider = $1 AND environment = $2 AND account_id = $3`,
		provider, environment, accountHash(account), until)
	return err
}

// AccountConnected reports whether any merchant has the account connected or has a choice about it open. Another company or shop of the same
// person counts too, since their access may be one grant at the provider. An account without an id may be any.
func (d *DB) AccountConnected(ctx context.Context, provider, environment string, a connectors.Account) (bool, error) {
	var connected bool
	err := d.Pool.QueryRow(ctx, `
		SELECT EXISTS (SELECT FROM connections WHERE provider = $1 AND environment = $2 AND account_id = ANY ($3) AND disconnected_at IS NULL)
			OR EXISTS (SELECT FROM flows WHERE provider = $1 AND environment = $2 AND account_id = ANY ($3) AND stage IN ('choosing', 'confirming') AND expires_at > $5)
			OR EXISTS (SELECT FROM connections WHERE provider = $1 AND environment = $2 AND disconnected_at IS NULL
				AND ($4 = '' OR starts_with(account_id, $4 || '/')))`,
		provider, environment, []string{a.ID, cmp.Or(a.UserID, a.ID)}, cmp.Or(a.UserID, a.ID), d.Now()).Scan(&connected)
	if err != nil {
		return false, fmt.Errorf("look for an account: %w", err)
	}
	return connected, nil
}

// RecordRevocation adds the event of the result of a revocation.
func (d *DB) RecordRevocation(ctx context.Context, e Revocation, revoked status.Revocation, call connectors.Call) error {
	return d.Audit.Record(ctx, withCall(audit.Event{
		Kind: revoked.Kind(), MerchantID: e.Connection.MerchantID, ConnectionID: e.Connection.ID, Provider: e.Connection.Provider, Note: string(revoked),
	}, call))
}

// RevocationStatus returns the result of the revocation of a connection that was disconnected at a time; "" if there is none yet.
func (d *DB) RevocationStatus(ctx context.Context, connection pg.ID, at time.Time) (status.Revocation, error) {
	result, err := pg.One(ctx, d.Pool, "read revocation", pgx.RowTo[status.Revocation],
		`SELECT note FROM events WHERE connection_id = $1 AND at >= $2 AND kind LIKE 'connection.revoke%' ORDER BY at DESC, id DESC LIMIT 1`, connection, at)
	if errors.Is(err, pg.ErrNotFound) {
		return "", nil
	}
	return result, err
}

// Receipt says who disconnected a connection and whether the provider has revoked its access.
type Receipt struct {
	At, RemainsUntil time.Time
	Revoked          status.Revocation // "" if there is no result yet
	Outcome          status.Outcome    // of the call to the provider; "" if there was none
	Actor            audit.Role        // who ended it
	By               string            // their name
}

// ConnectionReceipt returns the receipt of a disconnected connection.
func (d *DB) ConnectionReceipt(ctx context.Context, c Connection) (Receipt, error) {
	r := Receipt{At: c.DisconnectedAt}
	var kind status.Kind
	var actor audit.Role
	var outcome status.Outcome
	var note, by string
	err := pg.Each(ctx, d.Pool, "read receipt", []any{&kind, &note, &outcome, &actor, &by}, func() error {
		if kind != status.ConnectionDisconnected {
			r.Revoked, r.Outcome = status.Revocation(note), outcome
			return nil
		}
		r.Actor, r.By = actor, by
		if until, err := time.Parse(time.RFC3339, note); err == nil {
			r.RemainsUntil = until
		}
		return nil
	}, `
		SELECT e.kind, e.note, e.outcome, e.actor, coalesce(nullif(u.name, ''), u.email, '') FROM events e LEFT JOIN users u ON u.id = e.actor_id
		WHERE e.connection_id = $1 AND e.at >= $2 AND (e.kind = 'connection.disconnected' OR e.kind LIKE 'connection.revoke%') ORDER BY e.at, e.id`,
		c.ID, c.DisconnectedAt)
	return r, err
}
