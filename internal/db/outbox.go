package db

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// OutboxMail is a mail in the outbox of the demo and the tests.
type OutboxMail struct {
	ID                       pg.ID
	At                       time.Time
	Recipient, Subject, Text string
}

func outboxPlace(id pg.ID) seal.Place { return seal.Place{Table: "outbox", Column: "sealed", Row: id} }

// AddOutboxMail puts a mail into the outbox instead of sending it. Its text is sealed, because it holds the secret of a link.
func (d *DB) AddOutboxMail(ctx context.Context, m OutboxMail) error {
	m.ID, m.At = pg.NewID(), d.Now()
	sealed, err := d.keyset.Seal([]byte(m.Text), outboxPlace(m.ID))
	if err != nil {
		return err
	}
	_, err = pg.Exec(ctx, d.Pool, "add outbox mail", `INSERT INTO outbox (id, at, recipient, subject, sealed) VALUES ($1, $2, $3, $4, $5)`,
		m.ID, m.At, m.Recipient, m.Subject, sealed)
	return err
}

// OutboxMails lists the latest mails of the outbox, newest first.
func (d *DB) OutboxMails(ctx context.Context, limit int) ([]OutboxMail, error) {
	return pg.Collect(ctx, d.Pool, "read outbox", func(row pgx.CollectableRow) (OutboxMail, error) {
		var m OutboxMail
		var sealed []byte
		if err := row.Scan(&m.ID, &m.At, &m.Recipient, &m.Subject, &sealed); err != nil {
			return m, err
		}
		text, err := d.Unseal(sealed, outboxPlace(m.ID))
		m.Text = string(text)
		return m, err
	}, `SELECT id, at, recipient, subject, sealed FROM outbox ORDER BY at DESC, id DESC LIMIT $1`, limit)
}
