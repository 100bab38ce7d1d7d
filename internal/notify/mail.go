// Package notify says who is mailed about what, and when: the kinds of mail, the warnings of merchants and the notices of admins that are
// due, and the outbox that keeps mails instead of sending them. What is due is enqueued once, in the transaction that notes it.
package notify

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// MailKind is what a mail is for.
type MailKind string

// The kinds of mail.
const (
	MailInvitation           MailKind = "invitation"             // to set a first password
	MailPassword             MailKind = "password"               // to set a new password
	MailReconnect            MailKind = "reconnect"              // staff ask the user to reconnect
	MailActionNeeded         MailKind = "action-needed"          // connections on which only the merchant can act
	MailReconnectBy          MailKind = "reconnect-by"           // connections whose access ends at a known time
	MailBackToNormal         MailKind = "back-to-normal"         // to users who were warned
	MailRestored             MailKind = "restored"               // connections that a restore of the database has interrupted: once for each restore
	MailWebhookOff           MailKind = "webhook-off"            // to admins: an endpoint of webhooks was switched off
	MailConnected            MailKind = "connected"              // to the user who connected an account
	MailDisconnected         MailKind = "disconnected"           // the receipt, to the merchant's users
	MailPasswordChanged      MailKind = "password-changed"       // to the user whose it is
	MailIncident             MailKind = "incident"               // to admins: an incident has begun
	MailIncidentEnded        MailKind = "incident-ended"         // to admins who were mailed that it began
	MailPlatformActionNeeded MailKind = "platform-action-needed" // to admins: connections that wait for the platform
	MailFactorOn             MailKind = "second-factor-on"
	MailFactorOff            MailKind = "second-factor-off"
	MailRecoveryUsed         MailKind = "recovery-code-used"
)

// Mail is a mail to be sent, as a job holds it: ids only. Its text is written, and the secret of its link made, when it is sent.
type Mail struct {
	Kind        MailKind  `json:"kind"`
	User        pg.ID     `json:"user"`        // the recipient
	By          pg.ID     `json:"by,omitzero"` // the user who caused it; zero for Patchbay
	At          time.Time `json:"at,omitzero"` // when what it is about happened; zero for when it is enqueued
	Connections []pg.ID   `json:"connections,omitempty"`
	Provider    string    `json:"provider,omitempty"`    // of an incident, or of connections that wait for the platform
	Environment string    `json:"environment,omitempty"` // the provider's
	Code        string    `json:"code,omitempty"`        // an incident's status.Reason, or the status.Problem
	Count       int       `json:"count,omitempty"`       // of connections
	Since       time.Time `json:"since,omitzero"`        // when it began
	Endpoint    pg.ID     `json:"endpoint,omitzero"`     // of webhooks
}

// Queue takes mails in the transaction of the rows that cause them: a mail is sent once that has committed, and never if it does not.
// jobs.Jobs is River's.
type Queue interface {
	EnqueueMail(ctx context.Context, tx pgx.Tx, m Mail) error
}

// toAdmins enqueues a mail to every admin who can sign in and has not switched such mails off, and returns how many those are.
func toAdmins(ctx context.Context, tx pgx.Tx, m Mail, queue Queue) (int, error) {
	return Users(ctx, tx, m, queue, `role = 'admin' AND notices`)
}

// Mailable is the SQL condition that a user u can sign in and has an address.
const Mailable = `u.locked_at IS NULL AND u.password_hash <> '' AND u.email <> ''`

// Users enqueues a mail to every user of whom the SQL condition is true and who can sign in, and returns how many those are.
func Users(ctx context.Context, tx pgx.Tx, m Mail, queue Queue, where string, args ...any) (int, error) {
	users, err := pg.Collect(ctx, tx, "read users to mail", pgx.RowTo[pg.ID], `SELECT id FROM users u WHERE `+where+` AND `+Mailable+` ORDER BY id`, args...)
	if err != nil {
		return 0, err
	}
	for _, user := range users {
		m.User = user
		if err := queue.EnqueueMail(ctx, tx, m); err != nil {
			return 0, fmt.Errorf("enqueue %s: %w", m.Kind, err)
		}
	}
	return len(users), nil
}
