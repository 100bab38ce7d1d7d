package account

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/keyring"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// User is a person who signs in: a merchant's, or the platform's own staff.
type User struct {
	ID         pg.ID
	MerchantID pg.ID // zero for staff
	Role       audit.Role
	Email      string
	Name       string
	Locale     string    // "" follows the browser
	LockedAt   time.Time // zero unless locked
	CreatedAt  time.Time
	Invited    bool // has not set a password yet
	SSO        bool // signs in through the platform, and has no password

	SecondFactor bool // has one: the password alone opens nothing
	Notices      bool // of an admin: wants the mails that go to all admins

	accessVersion int64     // how often all access of the user was ended, when this was read
	proved        time.Time // by all that they have: by a passkey, or in the session that a new one takes the place of; zero: only a password, just now
}

// Staff reports whether the user belongs to the platform.
func (u User) Staff() bool { return u.Role.Staff() }

// Errors of users.
var (
	ErrInvalidEmail  = errors.New("this is not an e-mail address")
	ErrEmailTaken    = errors.New("another user has this e-mail address")
	ErrInvalidRole   = errors.New("the role is merchant, support or admin; merchant and only merchant goes with a merchant")
	ErrLastAdmin     = errors.New("this is the last admin who can sign in")
	ErrWrongPassword = errors.New("e-mail and password do not belong together")
)

const userColumns = `u.id, u.merchant_id, u.role, u.email, u.name, u.locale, u.locked_at, u.created_at, u.password_hash = '', u.password_hash = 'sso', u.second_factor_at IS NOT NULL, u.notices, u.access_version`

// signedUser are the columns by which a user is authenticated: see signature.
var signedUser = keyring.SignedUsers.Text + `, u.mac`

func userTargets(u *User) []any {
	return []any{&u.ID, &u.MerchantID, &u.Role, &u.Email, &u.Name, &u.Locale, &u.LockedAt, &u.CreatedAt, &u.Invited, &u.SSO, &u.SecondFactor, &u.Notices, &u.accessVersion}
}

// signature is what a signed row's MAC is of, and the MAC, as they were read.
type signature struct {
	text string
	mac  []byte
}

func (g *signature) targets() []any { return []any{&g.text, &g.mac} }

// authenticate returns pgx.ErrNoRows if the MAC is not valid, and seal.ErrUnknownKey if that is not known.
func (s *Store) authenticate(r keyring.SignedRows, g signature) error {
	err := s.db.Authenticate(r, g.text, g.mac)
	if errors.Is(err, seal.ErrForged) {
		err = pgx.ErrNoRows
	}
	return err
}

// scanUser reads userColumns and signedUser, and authenticates the user.
func (s *Store) scanUser(row pgx.CollectableRow) (User, error) {
	var u User
	var g signature
	err := row.Scan(append(userTargets(&u), g.targets()...)...)
	if err == nil {
		err = s.authenticate(keyring.SignedUsers, g)
	}
	return u, err
}

// NewUser is what AddUser needs to know.
type NewUser struct {
	Role                audit.Role
	Email, Name, Locale string
	MerchantID          pg.ID        // zero for staff
	Password            string       // "" for a user who is invited. The caller has checked it: see CheckPassword
	Jobs                notify.Queue // takes the mail with the invitation; nil if none is to be sent
}

// AddUser adds a user. It returns ErrInvalidEmail, text.ErrTooLong, ErrInvalidRole, ErrEmailTaken if another user has the address, and
// pg.ErrNotFound if there is no such merchant.
func (s *Store) AddUser(ctx context.Context, by audit.Actor, n NewUser) (u User, err error) {
	err = s.db.Tx(ctx, func(tx pgx.Tx) error {
		u, err = s.AddUserTx(ctx, tx, by, n)
		return err
	})
	return u, err
}

// AddUserTx is AddUser in the caller's transaction, such as one that adds the user's merchant too.
func (s *Store) AddUserTx(ctx context.Context, tx pgx.Tx, by audit.Actor, n NewUser) (User, error) {
	u := User{
		ID: pg.NewID(), MerchantID: n.MerchantID, Role: n.Role, Name: text.Name(n.Name), Locale: n.Locale, CreatedAt: s.db.Now(),
		Invited: n.Password == "", Notices: true,
	}
	address, err := mail.ParseAddress(text.Email(n.Email))
	if err != nil || address.Name != "" || len(address.Address) > 254 { // octets: RFC 5321 section 4.5.3.1.3
		return u, ErrInvalidEmail
	}
	u.Email = address.Address
	if text.Length(n.Name) > text.MaxName {
		return u, text.ErrTooLong
	}
	if u.Role != audit.RoleMerchant && !u.Staff() || u.Staff() != (u.MerchantID == pg.ID{}) {
		return u, ErrInvalidRole
	}
	var hash string
	if n.Password != "" {
		if hash, err = s.passwords.hash(ctx, n.Password); err != nil {
			return u, err
		}
	}
	_, err = pg.Exec(ctx, tx, "add user", `
		INSERT INTO users (id, merchant_id, role, email, name, password_hash, locale, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		u.ID, u.MerchantID, u.Role, u.Email, u.Name, hash, u.Locale, u.CreatedAt)
	switch {
	case pg.Violates(err, "users_email"):
		return u, ErrEmailTaken
	case pg.Violates(err, "users_merchant_id_fkey"):
		return u, pg.ErrNotFound
	case err != nil:
		return u, err
	}
	if err := s.db.Sign(ctx, tx, keyring.SignedUsers, u.ID); err != nil {
		return u, err
	}
	if err := search.AddWords(ctx, tx, u.Email+" "+u.Name); err != nil {
		return u, err
	}
	if n.Jobs != nil {
		if err := n.Jobs.EnqueueMail(ctx, tx, notify.Mail{Kind: notify.MailInvitation, User: u.ID, By: by.ID}); err != nil {
			return u, fmt.Errorf("enqueue invitation: %w", err)
		}
	}
	return u, s.audit.Add(ctx, tx, audit.Event{Kind: status.UserAdded, Actor: by, MerchantID: u.MerchantID, Note: u.Email})
}

// User returns a user. It returns pg.ErrNotFound if there is none with this id.
func (s *Store) User(ctx context.Context, id pg.ID) (User, error) {
	return pg.One(ctx, s.db.Pool, "read user", s.scanUser, `SELECT `+userColumns+`, `+signedUser+` FROM users u WHERE u.id = $1`, id)
}

// UserByEmail returns the user who signs in with an e-mail address and a password, however the address is written. It returns
// pg.ErrNotFound if there is none.
func (s *Store) UserByEmail(ctx context.Context, email string) (User, error) {
	return pg.One(ctx, s.db.Pool, "read user", s.scanUser, `SELECT `+userColumns+`, `+signedUser+` FROM users u WHERE lower(u.email) = lower($1) AND u.password_hash <> 'sso'`, text.Email(email))
}

// SaveProfile changes a user's own name and language. It returns text.ErrTooLong.
func (s *Store) SaveProfile(ctx context.Context, user pg.ID, name, locale string) error {
	if text.Length(name) > text.MaxName {
		return text.ErrTooLong
	}
	name = text.Name(name)
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		if _, err := pg.Exec(ctx, tx, "save profile", `UPDATE users SET name = $2, locale = $3 WHERE id = $1`, user, name, locale); err != nil {
			return err
		}
		return search.AddWords(ctx, tx, name)
	})
}

// SetNotices sets whether an admin wants the mails that go to all admins: see notify.Admins.
func (s *Store) SetNotices(ctx context.Context, user pg.ID, wanted bool) error {
	_, err := pg.Exec(ctx, s.db.Pool, "save notices", `UPDATE users SET notices = $2 WHERE id = $1`, user, wanted)
	return err
}

// LockUser ends a user's sessions and keeps them from signing in. It returns ErrLastAdmin if no other admin can sign in.
func (s *Store) LockUser(ctx context.Context, by audit.Actor, user pg.ID) error {
	return s.changeUser(ctx, by, user, status.UserLocked, func(tx pgx.Tx, u User) (string, error) {
		if !u.LockedAt.IsZero() {
			return u.Email, nil
		}
		if _, err := pg.Exec(ctx, tx, "lock user", `UPDATE users SET locked_at = $2 WHERE id = $1`, user, s.db.Now()); err != nil {
			return "", err
		}
		_, err := s.endAccess(ctx, tx, user, nil)
		return u.Email, err
	})
}

// UnlockUser lets a user sign in again.
func (s *Store) UnlockUser(ctx context.Context, by audit.Actor, user pg.ID) error {
	return s.changeUser(ctx, by, user, status.UserUnlocked, func(tx pgx.Tx, u User) (string, error) {
		_, err := pg.Exec(ctx, tx, "unlock user", `UPDATE users SET locked_at = NULL WHERE id = $1`, user)
		return u.Email, err
	})
}

// SetRole changes the role of one of the staff to support or admin. It ends the user's sessions, so that the new role begins with
// signing in. It returns ErrInvalidRole for a merchant's user or role
// and for a user whose role the platform's sign-in decides, and ErrLastAdmin if no other admin can sign in.
func (s *Store) SetRole(ctx context.Context, by audit.Actor, user pg.ID, role audit.Role) error {
	return s.changeUser(ctx, by, user, status.UserRoleChanged, func(tx pgx.Tx, u User) (string, error) {
		note := u.Email + ": " + string(u.Role) + " → " + string(role)
		if !u.Staff() || !role.Staff() || u.SSO {
			return "", ErrInvalidRole
		}
		if u.Role == role {
			return note, nil
		}
		if _, err := pg.Exec(ctx, tx, "set role", `UPDATE users SET role = $2 WHERE id = $1`, user, role); err != nil {
			return "", err
		}
		_, err := s.endAccess(ctx, tx, user, nil)
		return note, err
	})
}

// changeUser changes a user and adds an event of that kind with the note that change returns. It returns ErrLastAdmin if no admin who can sign in were left. The
// rows of all admins are locked in one order, so that two admins who demote each other at once do not both succeed.
func (s *Store) changeUser(ctx context.Context, by audit.Actor, user pg.ID, kind status.Kind, change func(tx pgx.Tx, u User) (note string, err error)) error {
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		before, err := lockAdmins(ctx, tx)
		if err != nil {
			return err
		}
		u, err := pg.One(ctx, tx, "read user", s.scanUser, `SELECT `+userColumns+`, `+signedUser+` FROM users u WHERE u.id = $1 FOR UPDATE`, user)
		if err != nil {
			return err
		}
		var note string
		err = s.db.Change(ctx, tx, keyring.SignedUsers, user, func() (err error) {
			note, err = change(tx, u)
			return err
		})
		if err != nil {
			return err
		}
		after, err := lockAdmins(ctx, tx)
		if err != nil {
			return err
		}
		if len(before) > 0 && len(after) == 0 {
			return ErrLastAdmin
		}
		return s.audit.Add(ctx, tx, audit.Event{Kind: kind, Actor: by, MerchantID: u.MerchantID, Note: note})
	})
}

// isPasswordAdmin is the SQL condition that a user is an admin who can sign in with a password. Of others only the platform knows whether
// they still can.
const isPasswordAdmin = `role = 'admin' AND locked_at IS NULL AND password_hash NOT IN ('', 'sso')`

// lockAdmins locks and lists the admins who can sign in with a password.
func lockAdmins(ctx context.Context, tx pgx.Tx) ([]pg.ID, error) {
	return pg.Collect(ctx, tx, "read admins", pgx.RowTo[pg.ID],
		`SELECT id FROM users WHERE `+isPasswordAdmin+` ORDER BY id FOR UPDATE`)
}
