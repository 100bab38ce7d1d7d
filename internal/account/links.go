package account

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
)

// LinkKind is what a link is for.
type LinkKind string

// The kinds of links that are sent to people. Opening one changes nothing, since mail scanners open links too; submitting its form
// spends it.
const (
	LinkInvitation LinkKind = "invitation" // to set a first password
	LinkPassword   LinkKind = "password"   // to set a new one
	LinkReconnect  LinkKind = "reconnect"  // to reconnect a connection
)

func (k LinkKind) lifetime() time.Duration {
	if k == LinkPassword {
		return time.Hour
	}
	return 7 * 24 * time.Hour
}

// keepLinksFor is how long a link is kept after it has expired.
const keepLinksFor = 30 * 24 * time.Hour

// ErrInvalidLink is returned for a link that is unknown, spent or too old. The three are deliberately the same.
var ErrInvalidLink = errors.New("this link is no longer valid")

// Link is what a link leads to.
type Link struct {
	ID           pg.ID
	Kind         LinkKind
	User         User // the recipient; zero for a link to reconnect
	Merchant     db.Merchant
	By           string // who sent it; "" when the user asked for it
	ConnectionID pg.ID  // of a link to reconnect
	ExpiresAt    time.Time
	Over         bool // of a link to reconnect: it is spent or too old
}

// AddLink makes a link and returns its secret, which is stored nowhere, and when it expires. user is zero for a link to reconnect
// that is not sent by mail, and connection is zero for all other kinds.
func (s *Store) AddLink(ctx context.Context, by audit.Actor, kind LinkKind, user, connection pg.ID) (secret pg.Secret, expires time.Time, err error) {
	secret = pg.NewSecret()
	now := s.db.Now()
	expires = now.Add(kind.lifetime())
	var author pg.ID
	if by.Role.Staff() {
		author = by.ID
	}
	id := pg.NewID()
	err = s.db.Tx(ctx, func(tx pgx.Tx) error {
		_, err := pg.Exec(ctx, tx, "add link", `
			INSERT INTO links (id, kind, secret_hash, user_id, connection_id, created_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			id, kind, secret.Hash(), user, connection, author, now, expires)
		if err != nil {
			return err
		}
		return s.db.Sign(ctx, tx, keyring.SignedLinks, id)
	})
	if err != nil {
		return "", expires, err
	}
	return secret, expires, nil
}

// Link returns what a link leads to, without spending it. It returns ErrInvalidLink also if its user is locked, or the MAC of either is
// not valid.
func (s *Store) Link(ctx context.Context, kind LinkKind, secret pg.Secret) (Link, error) {
	return validLink(pg.One(ctx, s.db.Pool, "read link", func(row pgx.CollectableRow) (Link, error) {
		l := Link{Kind: kind}
		var link, user signature
		err := row.Scan(&l.ID, &l.ConnectionID, &l.ExpiresAt, &l.User.ID, &l.User.MerchantID, &l.User.Email, &l.User.Name, &l.User.Role,
			&l.User.Locale, &l.User.Invited, &l.User.SecondFactor, &l.Merchant.ID, &l.Merchant.Name, &l.By, &link.text, &link.mac, &user.text, &user.mac)
		if err == nil {
			err = s.authenticate(keyring.SignedLinks, link)
		}
		if err == nil && l.User.ID != (pg.ID{}) {
			err = s.authenticate(keyring.SignedUsers, user)
		}
		return l, err
	}, `
		SELECT l.id, l.connection_id, l.expires_at, u.id, u.merchant_id, coalesce(u.email, ''), coalesce(u.name, ''), coalesce(u.role, ''), coalesce(u.locale, ''),
			coalesce(u.password_hash = '', false), coalesce(u.second_factor_at IS NOT NULL, false), m.id, coalesce(m.name, ''), coalesce(nullif(a.name, ''), a.email, ''),
			`+keyring.SignedLinks.Text+`, l.mac, `+signedUser+`
		FROM links l LEFT JOIN users u ON u.id = l.user_id LEFT JOIN merchants m ON m.id = u.merchant_id LEFT JOIN users a ON a.id = l.created_by
		WHERE l.secret_hash = $1 AND l.kind = $2 AND l.spent_at IS NULL AND l.expires_at > $3 AND u.locked_at IS NULL`,
		secret.Hash(), kind, s.db.Now()))
}

// ReconnectLink returns which connection a link to reconnect names, even if the link is over: by itself it gives no access, so it
// may still lead signed-in users to the page where they can act. It returns ErrInvalidLink if there is no such link.
func (s *Store) ReconnectLink(ctx context.Context, secret pg.Secret) (Link, error) {
	return validLink(pg.One(ctx, s.db.Pool, "read link", func(row pgx.CollectableRow) (Link, error) {
		l := Link{Kind: LinkReconnect}
		err := row.Scan(&l.ID, &l.ConnectionID, &l.ExpiresAt, &l.Over)
		return l, err
	}, `
		SELECT l.id, l.connection_id, l.expires_at, l.spent_at IS NOT NULL OR l.expires_at <= $3 OR u.locked_at IS NOT NULL
		FROM links l LEFT JOIN users u ON u.id = l.user_id WHERE l.secret_hash = $1 AND l.kind = $2`,
		secret.Hash(), LinkReconnect, s.db.Now()))
}

func validLink(l Link, err error) (Link, error) {
	if errors.Is(err, pg.ErrNotFound) {
		err = ErrInvalidLink
	}
	return l, err
}

// SpendReconnectLink spends a link to reconnect, when its form is submitted. It returns ErrInvalidLink if the link is spent or too
// old.
func (s *Store) SpendReconnectLink(ctx context.Context, id pg.ID) error {
	return s.spend(ctx, s.db.Pool, id)
}

func (s *Store) spend(ctx context.Context, q pg.Querier, link pg.ID) error {
	spent, err := pg.Exec(ctx, q, "spend link", `UPDATE links SET spent_at = $2 WHERE id = $1 AND spent_at IS NULL AND expires_at > $2`, link, s.db.Now())
	if err == nil && spent == 0 {
		err = ErrInvalidLink
	}
	return err
}
