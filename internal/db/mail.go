package db

import (
	"context"
	"fmt"
	"time"

	"patchbay/internal/status"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// The letters that people get.
const (
	MailInvitation   = "invitation"     // set a password and come in
	MailPassword     = "password"       // a forgotten password
	MailReconnect    = "reconnect"      // staff ask for it
	MailActionNeeded = "action-needed"  // connections that only the merchant can mend
	MailReconnectBy  = "reconnect-by"   // connections that end at a known time
	MailBackToNormal = "back-to-normal" // to whoever was warned
)

// Mail is a mail yet to be written, a job for Enqueue. It holds ids only: what it says is read, and the secret of its
// link made, when it is sent.
type Mail struct {
	Kind        string  `json:"kind"`
	User        pg.ID   `json:"user"`        // whom it is for
	By          pg.ID   `json:"by,omitzero"` // the person who caused it
	Connections []pg.ID `json:"connections,omitempty"`
}

// Recipient is whom a letter is for, with their merchant; the merchant is zero for staff.
func (d *DB) Recipient(ctx context.Context, user pg.ID) (User, Merchant, error) {
	u, err := d.User(ctx, user)
	if err != nil || u.Staff() {
		return u, Merchant{}, err
	}
	m, err := d.Merchant(ctx, u.MerchantID)
	return u, m, err
}

// MailConnections reads the connections that a letter is about, those of one merchant only.
func (d *DB) MailConnections(ctx context.Context, merchant pg.ID, ids []pg.ID) ([]Connection, error) {
	rows, err := d.Pool.Query(ctx, `SELECT `+connectionColumns+` FROM connections c
		WHERE c.id = ANY($1) AND c.merchant_id = $2 ORDER BY c.provider, c.account_name, c.id`, ids, merchant)
	if err != nil {
		return nil, fmt.Errorf("read a letter's connections: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanConnection)
	if err != nil {
		return nil, fmt.Errorf("read a letter's connections: %w", err)
	}
	return all, nil
}

// A warning waits a little, so that a merchant whose connections fail together gets one letter. One of long ago, from
// before mail was set up, is no news any more. A date is announced two days before.
const (
	gatherWarnings = 5 * time.Minute
	staleProblem   = 14 * 24 * time.Hour
)

// EnqueueWarnings enqueues the letters that are due: to people whose connections need them, once for each problem and never during
// an incident of the provider; to people whose access ends soon; and to whoever was warned once all is
// well. It returns how many.
func (d *DB) EnqueueWarnings(ctx context.Context, providers status.Providers, enqueue Enqueue) (letters int, err error) {
	now := d.Now()
	var names, environments, redirecting []string
	for name, p := range providers {
		if !p.SetUp {
			continue
		}
		names, environments = append(names, name), append(environments, p.Environment)
		if !p.Credentials {
			redirecting = append(redirecting, name)
		}
	}
	err = d.Tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('warnings', 0))`); err != nil {
			return fmt.Errorf("lock warnings: %w", err)
		}
		for _, due := range []struct {
			kind, sql string
			args      []any
		}{
			{MailActionNeeded, `
				INSERT INTO warnings AS w (connection_id, user_id, kind, about, warned_at)
				SELECT c.id, u.id, 'action-needed', c.problem_since, $1
				FROM connections c JOIN users u ON u.merchant_id = c.merchant_id AND u.locked_at IS NULL AND u.password_hash <> ''
				WHERE c.problem = ANY($2) AND c.disconnected_at IS NULL AND c.problem_since < $3 AND c.problem_since > $4
					AND c.health_order BETWEEN $5 AND $6 -- says the same, and has an index
					AND (c.provider, c.environment) IN (SELECT * FROM unnest($7::text[], $8::text[]))
					AND NOT EXISTS (SELECT FROM warnings o WHERE o.connection_id = c.id AND o.user_id = u.id AND o.kind = 'action-needed' AND o.about = c.problem_since)
					AND NOT EXISTS (SELECT FROM providers p WHERE p.name = c.provider AND p.environment = c.environment AND p.incident_since IS NOT NULL)
				ON CONFLICT (connection_id, user_id, kind) DO UPDATE SET about = excluded.about, warned_at = excluded.warned_at
					WHERE w.about <> excluded.about
				RETURNING connection_id, user_id`, []any{now, status.StoredProblemsOf(status.PartyMerchant), now.Add(-gatherWarnings), now.Add(-staleProblem), neededSince(now.Add(-gatherWarnings)), neededSince(now.Add(-staleProblem)) + 1, names, environments}},
			// Where renewing moves the date on, nobody need come back.
			{MailReconnectBy, `
				INSERT INTO warnings AS w (connection_id, user_id, kind, about, warned_at)
				SELECT c.id, u.id, 'reconnect-by', g.refresh_expires_at, $1
				FROM grants g JOIN connections c ON c.id = g.connection_id
					JOIN users u ON u.merchant_id = c.merchant_id AND u.locked_at IS NULL AND u.password_hash <> ''
				WHERE g.refresh_fixed AND g.refresh_expires_at > $1 AND g.refresh_expires_at < $2
					AND c.provider = ANY($3) AND (c.provider, c.environment) IN (SELECT * FROM unnest($4::text[], $5::text[])) AND c.problem = '' AND c.disconnected_at IS NULL
				ON CONFLICT (connection_id, user_id, kind) DO UPDATE SET about = excluded.about, warned_at = excluded.warned_at
					WHERE w.about < $1
				RETURNING connection_id, user_id`, []any{now, now.Add(status.Reminder), redirecting, names, environments}},
			{MailBackToNormal, `
				DELETE FROM warnings w USING connections c
				WHERE w.connection_id = c.id AND w.kind = 'action-needed' AND c.problem = '' AND c.failing_since IS NULL AND c.disconnected_at IS NULL
				RETURNING w.connection_id, w.user_id`, nil},
		} {
			rows, err := tx.Query(ctx, due.sql, due.args...)
			if err != nil {
				return fmt.Errorf("find who is due %s: %w", due.kind, err)
			}
			var order []pg.ID
			of := map[pg.ID][]pg.ID{}
			var connection, user pg.ID
			if _, err := pgx.ForEachRow(rows, []any{&connection, &user}, func() error {
				if of[user] == nil {
					order = append(order, user)
				}
				of[user] = append(of[user], connection)
				return nil
			}); err != nil {
				return fmt.Errorf("find who is due %s: %w", due.kind, err)
			}
			for _, user := range order {
				if err := enqueue(ctx, tx, Mail{Kind: due.kind, User: user, Connections: of[user]}); err != nil {
					return fmt.Errorf("enqueue %s: %w", due.kind, err)
				}
			}
			letters += len(order)
		}
		_, err := tx.Exec(ctx, `
			DELETE FROM warnings w USING connections c
			WHERE w.connection_id = c.id AND (c.disconnected_at IS NOT NULL OR w.kind = 'reconnect-by' AND w.about < $1)`, now.Add(-status.Reminder))
		if err != nil {
			return fmt.Errorf("drop old warnings: %w", err)
		}
		return nil
	})
	return letters, err
}

// neededSince is where in the order of health those stand that somebody has had to act on since then: see the column health_order.
func neededSince(t time.Time) int64 {
	return status.ActionNeeded.Rank()*1_000_000_000_000 + 100_000_000_000 - t.Unix() - 1
}

// ClearWarnings takes back that somebody was warned, because the letter turned out to be needless before it was sent.
func (d *DB) ClearWarnings(ctx context.Context, user pg.ID, connections []pg.ID) error {
	if _, err := d.Pool.Exec(ctx, `DELETE FROM warnings WHERE user_id = $1 AND connection_id = ANY($2)`, user, connections); err != nil {
		return fmt.Errorf("take back warnings: %w", err)
	}
	return nil
}

// OutboxMail is a mail in the outbox of the demo and the tests.
type OutboxMail struct {
	ID                       pg.ID
	At                       time.Time
	Recipient, Subject, Text string
}

func outboxPlace(id pg.ID) seal.Place { return seal.Place{Table: "outbox", Column: "sealed", Row: id} }

// AddOutboxMail puts a mail into the outbox instead of sending it. Its text is sealed: it holds a link.
func (d *DB) AddOutboxMail(ctx context.Context, m OutboxMail) error {
	m.ID, m.At = pg.NewID(), d.Now()
	sealed, err := d.keyset.Seal([]byte(m.Text), outboxPlace(m.ID))
	if err != nil {
		return err
	}
	_, err = d.Pool.Exec(ctx, `INSERT INTO outbox (id, at, recipient, subject, sealed) VALUES ($1, $2, $3, $4, $5)`,
		m.ID, m.At, m.Recipient, m.Subject, sealed)
	if err != nil {
		return fmt.Errorf("keep mail: %w", err)
	}
	return nil
}

// OutboxMails lists the latest mails of the outbox, newest first.
func (d *DB) OutboxMails(ctx context.Context, limit int) ([]OutboxMail, error) {
	rows, err := d.Pool.Query(ctx, `SELECT id, at, recipient, subject, sealed FROM outbox ORDER BY at DESC, id DESC LIMIT $1`, limit)
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (OutboxMail, error) {
		var m OutboxMail
		var sealed []byte
		if err := row.Scan(&m.ID, &m.At, &m.Recipient, &m.Subject, &sealed); err != nil {
			return m, err
		}
		text, err := d.keyset.Open(sealed, outboxPlace(m.ID))
		m.Text = string(text)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	return all, nil
}
