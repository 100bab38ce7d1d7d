package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// OutboxMail is a mail in the outbox of the demo and the tests.
type OutboxMail struct {
	ID                             pg.ID
	User                           pg.ID // the recipient; AddOutboxMail keeps none for a user who is gone
	At                             time.Time
	Recipient, Subject, Text, HTML string
}

// mailParts is what is sealed of a mail in the outbox, as JSON.
type mailParts struct {
	Text string `json:"text"`
	HTML string `json:"html"`
}

func outboxPlace(id pg.ID) seal.Place { return seal.Place{Table: "outbox", Column: "sealed", Row: id} }

// AddOutboxMail puts a mail into the outbox instead of sending it. Its text is sealed, because it holds the secret of a link.
func AddOutboxMail(ctx context.Context, k *keyring.Keyring, m OutboxMail) error {
	m.ID, m.At = pg.NewID(), k.Now()
	parts, err := json.Marshal(mailParts{m.Text, m.HTML})
	if err != nil {
		return fmt.Errorf("encode mail: %w", err)
	}
	sealed, err := k.Keyset.Seal(parts, outboxPlace(m.ID))
	if err != nil {
		return err
	}
	_, err = pg.Exec(ctx, k.Pool, "add outbox mail", `WITH there AS (SELECT id FROM users WHERE id = $6 FOR KEY SHARE)
		INSERT INTO outbox (id, at, recipient, subject, sealed, user_id) SELECT $1, $2, $3, $4, $5, id FROM there`,
		m.ID, m.At, m.Recipient, m.Subject, sealed, m.User)
	return err
}

// OutboxMails lists the latest mails of the outbox, newest first.
func OutboxMails(ctx context.Context, k *keyring.Keyring, limit int) ([]OutboxMail, error) {
	return pg.Collect(ctx, k.Pool, "read outbox", scanOutboxMail(k), `SELECT id, at, recipient, subject, sealed FROM outbox ORDER BY at DESC, id DESC LIMIT $1`, limit)
}

// ReadOutboxMail reads a mail of the outbox. It returns ErrNotFound if there is none with that id.
func ReadOutboxMail(ctx context.Context, k *keyring.Keyring, id pg.ID) (OutboxMail, error) {
	return pg.One(ctx, k.Pool, "read outbox", scanOutboxMail(k), `SELECT id, at, recipient, subject, sealed FROM outbox WHERE id = $1`, id)
}

func scanOutboxMail(k *keyring.Keyring) pgx.RowToFunc[OutboxMail] {
	return func(row pgx.CollectableRow) (OutboxMail, error) {
		var m OutboxMail
		var sealed []byte
		if err := row.Scan(&m.ID, &m.At, &m.Recipient, &m.Subject, &sealed); err != nil {
			return m, err
		}
		opened, err := k.Unseal(sealed, outboxPlace(m.ID))
		if err != nil {
			return m, err
		}
		var parts mailParts
		if json.Unmarshal(opened, &parts) != nil {
			parts.Text = string(opened) // kept before mails had their HTML here
		}
		m.Text, m.HTML = parts.Text, parts.HTML
		return m, nil
	}
}
