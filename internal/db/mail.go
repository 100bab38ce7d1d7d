package db

import (
	"context"
	"time"

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

// MailConnections reads the connections that a mail is about, those of one merchant only.
func (d *DB) MailConnections(ctx context.Context, merchant pg.ID, ids []pg.ID) ([]Connection, error) {
	return pg.Collect(ctx, d.Pool, "read a mail's connections", scanConnection, `SELECT `+connectionColumns+` FROM connections c
		WHERE c.id = ANY($1) AND c.merchant_id = $2 ORDER BY c.provider, c.account_name, c.id`, ids, merchant)
}
