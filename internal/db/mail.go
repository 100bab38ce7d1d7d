package db

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// The kinds of mail.
const (
	MailInvitation   = "invitation"     // to set a first password
	MailPassword     = "password"       // a forgotten password
	MailReconnect    = "reconnect"      // staff ask the person to reconnect
	MailActionNeeded = "action-needed"  // connections on which only the merchant can act
	MailReconnectBy  = "reconnect-by"   // connections that end at a known time
	MailBackToNormal = "back-to-normal" // to people who were warned
)

// Mail is a mail yet to be written, as a job holds it: ids only. Its text is written, and the secret of its link made, when it is
// sent.
type Mail struct {
	Kind        string  `json:"kind"`
	User        pg.ID   `json:"user"`        // whom it is for
	By          pg.ID   `json:"by,omitzero"` // the user who caused it; zero for Patchbay
	Connections []pg.ID `json:"connections,omitempty"`
}

// MailConnections reads the connections that a mail is about, those of one merchant only.
func (d *DB) MailConnections(ctx context.Context, merchant pg.ID, ids []pg.ID) ([]Connection, error) {
	rows, err := d.Pool.Query(ctx, `SELECT `+connectionColumns+` FROM connections c
		WHERE c.id = ANY($1) AND c.merchant_id = $2 ORDER BY c.provider, c.account_name, c.id`, ids, merchant)
	if err != nil {
		return nil, fmt.Errorf("read a mail's connections: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanConnection)
	if err != nil {
		return nil, fmt.Errorf("read a mail's connections: %w", err)
	}
	return all, nil
}
