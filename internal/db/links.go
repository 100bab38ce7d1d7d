package db

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// The kinds of links that are sent to people, and how long each is good. Opening one changes nothing, since mail scanners
// open them too; only its form spends it.
const (
	LinkInvitation = "invitation"
	LinkPassword   = "password"
	LinkReconnect  = "reconnect"
)

func linkLifetime(kind string) time.Duration {
	if kind == LinkPassword {
		return time.Hour
	}
	return 7 * 24 * time.Hour
}

// ErrLink: a link that is unknown, spent or too old; the three are not told apart.
var ErrLink = errors.New("this link is no longer good")

// Link is what a link leads to.
type Link struct {
	ID           pg.ID
	Kind         string
	User         User // whom it is for; zero for a link to reconnect
	Merchant     Merchant
	By           string // who sent it; "" for nobody but the person themselves
	ConnectionID pg.ID  // a link to reconnect: which connection
	ExpiresAt    time.Time
	Over         bool // a link to reconnect that is spent or too old
}

// AddLink makes a link and returns its secret, known from then on only to whoever gets it, and until when it is good.
// A link to reconnect names the connection, and the user only when it is sent to one.
func (d *DB) AddLink(ctx context.Context, by audit.Actor, kind string, user, connection pg.ID) (secret pg.Secret, until time.Time, err error) {
	secret = pg.NewSecret()
	now := d.Now()
	until = now.Add(linkLifetime(kind))
	var author pg.ID
	if by.Kind == RoleSupport || by.Kind == RoleAdmin {
		author = by.ID
	}
	_, err = d.Pool.Exec(ctx, `
		INSERT INTO links (id, kind, secret_hash, user_id, connection_id, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		pg.NewID(), kind, secret.Hash(), user, connection, author, now, until)
	if err != nil {
		return "", until, fmt.Errorf("add link: %w", err)
	}
	return secret, until, nil
}

// Link reads where a link leads, without spending it. ErrLink, also when its person is locked.
func (d *DB) Link(ctx context.Context, kind string, secret pg.Secret) (Link, error) {
	l := Link{Kind: kind}
	err := d.Pool.QueryRow(ctx, `
		SELECT l.id, l.connection_id, l.expires_at, u.id, u.merchant_id, coalesce(u.email, ''), coalesce(u.name, ''), coalesce(u.role, ''), coalesce(u.locale, ''),
			coalesce(u.password_hash = '', false), m.id, coalesce(m.name, ''), coalesce(nullif(a.name, ''), a.email, '')
		FROM links l LEFT JOIN users u ON u.id = l.user_id LEFT JOIN merchants m ON m.id = u.merchant_id LEFT JOIN users a ON a.id = l.created_by
		WHERE l.secret_hash = $1 AND l.kind = $2 AND l.spent_at IS NULL AND l.expires_at > $3 AND u.locked_at IS NULL`,
		secret.Hash(), kind, d.Now()).Scan(&l.ID, &l.ConnectionID, &l.ExpiresAt, &l.User.ID, &l.User.MerchantID, &l.User.Email, &l.User.Name, &l.User.Role,
		&l.User.Locale, &l.User.Invited, &l.Merchant.ID, &l.Merchant.Name, &l.By)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, ErrLink
	}
	if err != nil {
		return l, fmt.Errorf("read link: %w", err)
	}
	return l, nil
}

// ReconnectLink reads which connection a link to reconnect names, also of one that is over: it carries no authority, so it
// may still lead whoever has some to where they can act. ErrLink when there is none such.
func (d *DB) ReconnectLink(ctx context.Context, secret pg.Secret) (Link, error) {
	l := Link{Kind: LinkReconnect}
	err := d.Pool.QueryRow(ctx, `
		SELECT l.id, l.connection_id, l.expires_at, l.spent_at IS NOT NULL OR l.expires_at <= $3 OR u.locked_at IS NOT NULL
		FROM links l LEFT JOIN users u ON u.id = l.user_id WHERE l.secret_hash = $1 AND l.kind = $2`,
		secret.Hash(), l.Kind, d.Now()).Scan(&l.ID, &l.ConnectionID, &l.ExpiresAt, &l.Over)
	if errors.Is(err, pgx.ErrNoRows) {
		return l, ErrLink
	}
	if err != nil {
		return l, fmt.Errorf("read link: %w", err)
	}
	return l, nil
}

// SetPassword spends a link of an invitation or a forgotten password: the person has this password from now on, every
// other link of theirs is spent and every session over. An empty name keeps the old one. ErrLink.
func (d *DB) SetPassword(ctx context.Context, kind string, secret pg.Secret, name, password, address string) (User, error) {
	link, err := d.Link(ctx, kind, secret)
	if err != nil {
		return User{}, err
	}
	hash, err := d.passwords.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	u := link.User
	err = d.Tx(ctx, func(tx pgx.Tx) error {
		spent, err := tx.Exec(ctx, `UPDATE links SET spent_at = $2 WHERE id = $1 AND spent_at IS NULL AND expires_at > $2`, link.ID, d.Now())
		if err != nil {
			return fmt.Errorf("spend link: %w", err)
		}
		if spent.RowsAffected() == 0 {
			return ErrLink
		}
		changed, err := tx.Exec(ctx, `UPDATE users SET password_hash = $2, name = coalesce(nullif($3, ''), name) WHERE id = $1 AND locked_at IS NULL`,
			u.ID, hash, strings.TrimSpace(name))
		if err != nil {
			return fmt.Errorf("set password: %w", err)
		}
		if changed.RowsAffected() == 0 {
			return ErrLink
		}
		if err := d.endAccess(ctx, tx, u.ID, nil); err != nil {
			return err
		}
		what := status.UserPasswordChanged
		if kind == LinkInvitation {
			what = status.UserInvitationAccepted
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: what, MerchantID: u.MerchantID, Note: u.Email, Actor: audit.Actor{Kind: u.Role, ID: u.ID, Address: address}})
	})
	return u, err
}

// SpendReconnectLink spends a link to reconnect once the person is on their way.
func (d *DB) SpendReconnectLink(ctx context.Context, id pg.ID) error {
	spent, err := d.Pool.Exec(ctx, `UPDATE links SET spent_at = $2 WHERE id = $1 AND spent_at IS NULL AND expires_at > $2`, id, d.Now())
	if err != nil {
		return fmt.Errorf("spend link: %w", err)
	}
	if spent.RowsAffected() == 0 {
		return ErrLink
	}
	return nil
}

// endAccess ends a person's sessions, save the one kept, and the links by which a password could be set.
func (d *DB) endAccess(ctx context.Context, tx pgx.Tx, user pg.ID, keep []byte) error {
	if _, err := tx.Exec(ctx, `DELETE FROM sessions WHERE user_id = $1 AND id_hash IS DISTINCT FROM $2`, user, keep); err != nil {
		return fmt.Errorf("end sessions: %w", err)
	}
	if _, err := tx.Exec(ctx, `UPDATE links SET spent_at = $2 WHERE user_id = $1 AND kind <> 'reconnect' AND spent_at IS NULL`, user, d.Now()); err != nil {
		return fmt.Errorf("end links: %w", err)
	}
	return nil
}
