package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/mail"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// ssoPasswordHash is the password_hash of users who sign in through the platform. No password matches it, and the user's MAC covers it.
const ssoPasswordHash = "sso"

// Person is a person whom the platform's OpenID Connect provider has authenticated. Only issuer and subject identify them: name and
// e-mail address are for display, and may be those of another user.
type Person struct {
	Issuer, Subject string
	Name, Email     string
	Role            audit.Role // what the provider's claims make of them; "" for nothing
	MerchantID      pg.ID      // zero for staff
}

// label is the person's name in events.
func (p Person) label() string { return cmp.Or(p.Email, p.Name, p.Subject) }

// cleaned returns the person with name and address as they are stored: cleaned, of bounded length, and no address that mail does not take.
func (p Person) cleaned() Person {
	address, err := mail.ParseAddress(text.Email(p.Email))
	if err != nil || address.Name != "" || len(address.Address) > 254 { // octets: RFC 5321 section 4.5.3.1.3
		p.Email = ""
	} else {
		p.Email = address.Address
	}
	p.Name = cmp.Or(truncateName(p.Name), p.Email, truncateName(p.Subject))
	return p
}

// truncateName returns a name of at most text.MaxName characters.
func truncateName(name string) string {
	name = text.Name(name)
	for r := []rune(name); text.Length(name) > text.MaxName; {
		r = r[:min(len(r)-1, text.MaxName)]
		name = text.Name(string(r))
	}
	return name
}

// ErrLocked is returned when a person is authenticated whose user is locked here.
var ErrLocked = errors.New("this user is locked")

// SignInPerson returns the user of a person, and adds one at their first sign-in. Role, merchant, name and address become what the
// provider says now. If role or merchant differ from before, the user's sessions are ended. It returns ErrLocked.
func (s *Store) SignInPerson(ctx context.Context, p Person, from audit.Actor) (u User, err error) {
	p = p.cleaned()
	for range 2 { // of two first sign-ins at once, the second finds the user that the other added
		err = s.db.Tx(ctx, func(tx pgx.Tx) error {
			u, err = s.personTx(ctx, tx, p)
			switch {
			case errors.Is(err, pg.ErrNotFound):
				u, err = s.addPerson(ctx, tx, p, from)
			case err == nil && !u.LockedAt.IsZero():
				err = ErrLocked
			case err == nil:
				u, err = s.updatePerson(ctx, tx, u, p, from)
			}
			return err
		})
		if !pg.Violates(err, "identities_issuer_subject_key") {
			break
		}
	}
	return u, err
}

// personTx locks and returns the user of a person. It returns pg.ErrNotFound if they have none, and ErrWrongPassword if a row that says
// who they are has no valid MAC.
func (s *Store) personTx(ctx context.Context, tx pgx.Tx, p Person) (u User, err error) {
	var user pg.ID
	var identity signature
	err = tx.QueryRow(ctx, `SELECT i.user_id, `+keyring.SignedIdentities.Text+`, i.mac FROM identities i WHERE i.issuer = $1 AND i.subject = $2 FOR UPDATE`,
		p.Issuer, p.Subject).Scan(append([]any{&user}, identity.targets()...)...)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return u, pg.ErrNotFound
	case err != nil:
		return u, fmt.Errorf("read identity: %w", err)
	}
	if err = s.authenticate(keyring.SignedIdentities, identity); err == nil {
		u, err = pg.One(ctx, tx, "read user", s.scanUser, `SELECT `+userColumns+`, `+signedUser+` FROM users u WHERE u.id = $1 FOR UPDATE`, user)
	}
	if errors.Is(err, pgx.ErrNoRows) || errors.Is(err, pg.ErrNotFound) || err == nil && !u.SSO {
		err = ErrWrongPassword
	}
	return u, err
}

func (s *Store) addPerson(ctx context.Context, tx pgx.Tx, p Person, from audit.Actor) (User, error) {
	u := User{ID: pg.NewID(), MerchantID: p.MerchantID, Role: p.Role, Email: p.Email, Name: p.Name, SSO: true, CreatedAt: s.db.Now()}
	_, err := pg.Exec(ctx, tx, "add user", `
		INSERT INTO users (id, merchant_id, role, email, name, password_hash, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		u.ID, u.MerchantID, u.Role, u.Email, u.Name, ssoPasswordHash, u.CreatedAt)
	if err != nil {
		return u, err
	}
	identity := pg.NewID()
	_, err = pg.Exec(ctx, tx, "add identity", `INSERT INTO identities (id, user_id, issuer, subject, created_at) VALUES ($1, $2, $3, $4, $5)`,
		identity, u.ID, p.Issuer, p.Subject, u.CreatedAt)
	if err != nil {
		return u, err
	}
	if err := errors.Join(s.db.Sign(ctx, tx, keyring.SignedUsers, u.ID), s.db.Sign(ctx, tx, keyring.SignedIdentities, identity)); err != nil {
		return u, err
	}
	if err := search.AddWords(ctx, tx, u.Email+" "+u.Name); err != nil {
		return u, err
	}
	from.Role, from.ID = u.Role, u.ID
	return u, s.audit.Add(ctx, tx, audit.Event{Kind: status.UserAdded, Actor: from, MerchantID: u.MerchantID, Note: p.label()})
}

func (s *Store) updatePerson(ctx context.Context, tx pgx.Tx, u User, p Person, from audit.Actor) (User, error) {
	before := u
	u.Role, u.MerchantID, u.Name, u.Email = p.Role, p.MerchantID, p.Name, p.Email
	if u == before {
		return u, nil
	}
	err := s.db.Change(ctx, tx, keyring.SignedUsers, u.ID, func() error {
		_, err := pg.Exec(ctx, tx, "update user", `UPDATE users SET role = $2, merchant_id = $3, name = $4, email = $5 WHERE id = $1`,
			u.ID, u.Role, u.MerchantID, u.Name, u.Email)
		return err
	})
	if err != nil {
		return u, err
	}
	if err := search.AddWords(ctx, tx, u.Email+" "+u.Name); err != nil {
		return u, err
	}
	if u.Role == before.Role && u.MerchantID == before.MerchantID {
		return u, nil
	}
	if u.accessVersion, err = s.endAccess(ctx, tx, u.ID, nil); err != nil {
		return u, err
	}
	from.Role, from.ID = before.Role, u.ID
	note := p.label() + ": " + string(before.Role) + " → " + string(u.Role)
	return u, s.audit.Add(ctx, tx, audit.Event{Kind: status.UserRoleChanged, Actor: from, MerchantID: u.MerchantID, Note: note})
}

// RejectPerson records that a person was authenticated and may not sign in, with the reason, and ends what access they had.
func (s *Store) RejectPerson(ctx context.Context, p Person, why string, from audit.Actor) error {
	p = p.cleaned()
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		u, err := s.personTx(ctx, tx, p)
		switch {
		case errors.Is(err, pg.ErrNotFound), errors.Is(err, ErrWrongPassword):
			u = User{}
		case err != nil:
			return err
		default:
			if _, err := s.endAccess(ctx, tx, u.ID, nil); err != nil {
				return err
			}
		}
		from.Role, from.ID = u.Role, u.ID
		return s.audit.Add(ctx, tx, audit.Event{Kind: status.UserTurnedAway, Actor: from, MerchantID: u.MerchantID, Code: why, Note: p.label()})
	})
}

// EndOtherIssuers ends the sessions of people whom another issuer than this one authenticated; with "" those of all who signed in through
// the platform. It is for the start: the issuer may have been changed because it is believed no longer.
func (s *Store) EndOtherIssuers(ctx context.Context, issuer string) error {
	_, err := pg.Exec(ctx, s.db.Pool, "end sessions of other issuers", `
		DELETE FROM sessions USING users u LEFT JOIN identities i ON i.user_id = u.id
		WHERE u.id = sessions.user_id AND u.password_hash = 'sso' AND rtrim(coalesce(i.issuer, ''), '/') IS DISTINCT FROM nullif(rtrim($1, '/'), '')`, issuer)
	return err
}
