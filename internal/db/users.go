package db

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// User is a person: a merchant's, or the platform's own staff.
type User struct {
	ID         pg.ID
	MerchantID pg.ID // zero for staff
	Role       string
	Email      string
	Name       string
	Locale     string    // "" follows the browser
	LockedAt   time.Time // zero unless locked
	CreatedAt  time.Time
	Invited    bool // has not set a password yet
}

// The roles.
const (
	RoleMerchant = "merchant"
	RoleSupport  = "support"
	RoleAdmin    = "admin"
)

// Staff says whether the user belongs to the platform.
func (u User) Staff() bool { return u.Role == RoleSupport || u.Role == RoleAdmin }

// What can be wrong with a user.
var (
	ErrEmail      = errors.New("this is not an e-mail address")
	ErrEmailTaken = errors.New("somebody with this e-mail address exists already")
	ErrRole       = errors.New("the role is merchant, support or admin; merchant and only merchant goes with a merchant")
	ErrLastAdmin  = errors.New("this is the last admin who can sign in")
	ErrPassword   = errors.New("e-mail and password do not belong together")
)

const userColumns = `u.id, u.merchant_id, u.role, u.email, u.name, u.locale, u.locked_at, u.created_at, u.password_hash = ''`

func userTargets(u *User) []any {
	return []any{&u.ID, &u.MerchantID, &u.Role, &u.Email, &u.Name, &u.Locale, &u.LockedAt, &u.CreatedAt, &u.Invited}
}

// NewUser is what AddUser is told. A merchant's user has MerchantID or MerchantName.
type NewUser struct {
	Role, Email, Name, Locale string
	Password                  string // "" when an invitation is to follow
	MerchantID                pg.ID
	MerchantName              string  // the merchant is made when none has this name; ErrAmbiguousName when several have
	Enqueue                   Enqueue // sends the invitation; nil when it is not to be sent
}

// AddUser adds a person. ErrEmail, ErrEmailTaken, ErrRole, ErrAmbiguousName, ErrNotFound (no such merchant).
func (d *DB) AddUser(ctx context.Context, by audit.Actor, n NewUser) (User, error) {
	u := User{ID: pg.NewID(), MerchantID: n.MerchantID, Role: n.Role, Name: strings.TrimSpace(n.Name), Locale: n.Locale, Invited: n.Password == ""}
	address, err := mail.ParseAddress(strings.TrimSpace(n.Email))
	if err != nil || address.Name != "" || len(address.Address) > 254 {
		return u, ErrEmail
	}
	u.Email = address.Address
	hasMerchant := n.MerchantID != (pg.ID{}) || strings.TrimSpace(n.MerchantName) != ""
	if n.Role != RoleMerchant && !u.Staff() || hasMerchant != (n.Role == RoleMerchant) {
		return u, ErrRole
	}
	var hash string
	if n.Password != "" {
		if hash, err = d.passwords.hash(ctx, n.Password); err != nil {
			return u, err
		}
	}
	err = d.Tx(ctx, func(tx pgx.Tx) error {
		if hasMerchant {
			m, err := d.merchantFor(ctx, tx, by, n)
			if err != nil {
				return err
			}
			u.MerchantID = m.ID
		}
		u.CreatedAt = d.Now()
		_, err := tx.Exec(ctx, `
			INSERT INTO users (id, merchant_id, role, email, name, password_hash, locale, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			u.ID, u.MerchantID, u.Role, u.Email, u.Name, hash, u.Locale, u.CreatedAt)
		if pg.Violates(err, "users_email") {
			return ErrEmailTaken
		}
		if err != nil {
			return fmt.Errorf("add user: %w", err)
		}
		if n.Enqueue != nil {
			if err := n.Enqueue(ctx, tx, Mail{Kind: MailInvitation, User: u.ID, By: by.ID}); err != nil {
				return fmt.Errorf("enqueue invitation: %w", err)
			}
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.UserAdded, MerchantID: u.MerchantID, Note: u.Email, Actor: by})
	})
	return u, err
}

// merchantFor finds or makes the merchant of a new user. The lock keeps two from making the same name at once.
func (d *DB) merchantFor(ctx context.Context, tx pgx.Tx, by audit.Actor, n NewUser) (Merchant, error) {
	if n.MerchantID != (pg.ID{}) {
		return d.merchant(ctx, tx, `m.id = $1`, n.MerchantID)
	}
	name := strings.TrimSpace(n.MerchantName)
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('merchant ' || lower($1), 0))`, name); err != nil {
		return Merchant{}, fmt.Errorf("lock a merchant's name: %w", err)
	}
	m, err := d.merchant(ctx, tx, `lower(m.name) = lower($1)`, name)
	if errors.Is(err, pg.ErrNotFound) {
		return d.addMerchant(ctx, tx, by, Merchant{Name: name, Locale: n.Locale})
	}
	return m, err
}

// User finds a person by id.
func (d *DB) User(ctx context.Context, id pg.ID) (User, error) {
	var u User
	if err := d.Pool.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE u.id = $1`, id).Scan(userTargets(&u)...); err != nil {
		return u, fmt.Errorf("read user: %w", pg.NotFound(err))
	}
	return u, nil
}

// UserByEmail finds a person by e-mail address, however it is capitalised.
func (d *DB) UserByEmail(ctx context.Context, email string) (User, error) {
	var u User
	err := d.Pool.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE lower(u.email) = lower($1)`, strings.TrimSpace(email)).Scan(userTargets(&u)...)
	if err != nil {
		return u, fmt.Errorf("read user: %w", pg.NotFound(err))
	}
	return u, nil
}

// Authenticate finds who has this e-mail address and password. ErrPassword when they do not belong together, there is
// no such person, or they are locked or only invited: the answers are alike and take alike. A hash made with yesterday's
// parameters is made anew.
func (d *DB) Authenticate(ctx context.Context, email, password string) (User, error) {
	var u User
	var hash string
	err := d.Pool.QueryRow(ctx, `SELECT `+userColumns+`, u.password_hash FROM users u WHERE lower(u.email) = lower($1)`, strings.TrimSpace(email)).
		Scan(append(userTargets(&u), &hash)...)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return u, fmt.Errorf("read user: %w", err)
	}
	ok, stale, err := d.passwords.matches(ctx, password, hash)
	switch {
	case err != nil:
		return u, err
	case !ok || !u.LockedAt.IsZero():
		return u, ErrPassword
	case stale:
		if fresh, err := d.passwords.hash(ctx, password); err == nil {
			if _, err := d.Pool.Exec(ctx, `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`, u.ID, hash, fresh); err != nil {
				return u, fmt.Errorf("renew a password's hash: %w", err)
			}
		}
	}
	return u, nil
}

// SaveAccount keeps what a person says about themselves.
func (d *DB) SaveAccount(ctx context.Context, user pg.ID, name, locale string) error {
	_, err := d.Pool.Exec(ctx, `UPDATE users SET name = $2, locale = $3 WHERE id = $1`, user, strings.TrimSpace(name), locale)
	if err != nil {
		return fmt.Errorf("save account: %w", err)
	}
	return nil
}

// ChangePassword sets a person's own new password when the old one is right, and ends all their sessions but the one
// kept. ErrPassword.
func (d *DB) ChangePassword(ctx context.Context, by audit.Actor, user pg.ID, old, fresh string, keep []byte) error {
	var oldHash string
	if err := d.Pool.QueryRow(ctx, `SELECT password_hash FROM users WHERE id = $1`, user).Scan(&oldHash); err != nil {
		return fmt.Errorf("read user: %w", pg.NotFound(err))
	}
	ok, _, err := d.passwords.matches(ctx, old, oldHash)
	if err != nil {
		return err
	}
	if !ok {
		return ErrPassword
	}
	hash, err := d.passwords.hash(ctx, fresh)
	if err != nil {
		return err
	}
	return d.Tx(ctx, func(tx pgx.Tx) error {
		changed, err := tx.Exec(ctx, `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`, user, oldHash, hash)
		if err != nil {
			return fmt.Errorf("change password: %w", err)
		}
		if changed.RowsAffected() == 0 {
			return ErrPassword // changed elsewhere meanwhile
		}
		if err := d.endAccess(ctx, tx, user, keep); err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.UserPasswordChanged, Actor: by})
	})
}

// EndSessions signs a person out everywhere, save where keep says.
func (d *DB) EndSessions(ctx context.Context, by audit.Actor, user pg.ID, keep []byte) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		var email string
		if err := tx.QueryRow(ctx, `SELECT email FROM users WHERE id = $1`, user).Scan(&email); err != nil {
			return fmt.Errorf("read user: %w", pg.NotFound(err))
		}
		if _, err := tx.Exec(ctx, `DELETE FROM sessions WHERE user_id = $1 AND id_hash IS DISTINCT FROM $2`, user, keep); err != nil {
			return fmt.Errorf("end sessions: %w", err)
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.UserSessionsEnded, Note: email, Actor: by})
	})
}

// LockUser keeps a person out, at once. ErrLastAdmin.
func (d *DB) LockUser(ctx context.Context, by audit.Actor, user pg.ID) error {
	return d.changeUser(ctx, by, user, status.UserLocked, func(tx pgx.Tx, u User) error {
		if !u.LockedAt.IsZero() {
			return nil
		}
		if _, err := tx.Exec(ctx, `UPDATE users SET locked_at = $2 WHERE id = $1`, user, d.Now()); err != nil {
			return err
		}
		return d.endAccess(ctx, tx, user, nil)
	})
}

// UnlockUser lets a person in again.
func (d *DB) UnlockUser(ctx context.Context, by audit.Actor, user pg.ID) error {
	return d.changeUser(ctx, by, user, status.UserUnlocked, func(tx pgx.Tx, _ User) error {
		_, err := tx.Exec(ctx, `UPDATE users SET locked_at = NULL WHERE id = $1`, user)
		return err
	})
}

// SetRole makes support an admin or the other way round; whoever works for a merchant stays theirs. What they have open ends, so that
// the new role begins with signing in. ErrRole, ErrLastAdmin.
func (d *DB) SetRole(ctx context.Context, by audit.Actor, user pg.ID, role string) error {
	return d.changeUser(ctx, by, user, status.UserRoleChanged, func(tx pgx.Tx, u User) error {
		if !u.Staff() || !(User{Role: role}).Staff() {
			return ErrRole
		}
		if u.Role == role {
			return nil
		}
		if _, err := tx.Exec(ctx, `UPDATE users SET role = $2 WHERE id = $1`, user, role); err != nil {
			return err
		}
		return d.endAccess(ctx, tx, user, nil)
	})
}

// changeUser changes a person and writes it down, unless nobody were left who can let others in. Admins' rows are locked
// together and in order, so that two admins who demote each other at once do not both succeed.
func (d *DB) changeUser(ctx context.Context, by audit.Actor, user pg.ID, kind status.Kind, change func(tx pgx.Tx, u User) error) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		before, err := admins(ctx, tx)
		if err != nil {
			return err
		}
		var u User
		if err := tx.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE u.id = $1 FOR UPDATE`, user).Scan(userTargets(&u)...); err != nil {
			return fmt.Errorf("read user: %w", pg.NotFound(err))
		}
		if err := change(tx, u); err != nil {
			if errors.Is(err, ErrRole) {
				return err
			}
			return fmt.Errorf("%s: %w", kind, err)
		}
		after, err := admins(ctx, tx)
		if err != nil {
			return err
		}
		if len(before) > 0 && len(after) == 0 {
			return ErrLastAdmin
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: kind, MerchantID: u.MerchantID, Note: u.Email, Actor: by})
	})
}

// admins locks and lists the admins who can sign in.
func admins(ctx context.Context, tx pgx.Tx) ([]pg.ID, error) {
	rows, err := tx.Query(ctx, `SELECT id FROM users WHERE role = 'admin' AND locked_at IS NULL AND password_hash <> '' ORDER BY id FOR UPDATE`)
	if err != nil {
		return nil, fmt.Errorf("read admins: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID])
	if err != nil {
		return nil, fmt.Errorf("read admins: %w", err)
	}
	return ids, nil
}

// Person is a user as lists show them.
type Person struct {
	User
	Merchant  string
	SeenAt    time.Time // zero: never
	Sessions  int       // open ones
	LastAdmin bool      // the only admin who can sign in
}

// People are the users that a list shows: of one merchant, of one role, found by the words of e-mail and name; in order of e-mail, after
// the one named, at most limit.
type People struct {
	Merchant      pg.ID
	Role, Search  string
	After, Before string // e-mail addresses
	Limit         int
}

// People lists users. Before pages backwards; the order is the same.
func (d *DB) People(ctx context.Context, p People) ([]Person, error) {
	if p.Search != "" {
		// Few are gathered and sorted; of more than that a walk in the order of addresses soon meets a page.
		const few = 1000
		if all, found, err := d.people(ctx, p, ` LIMIT `+strconv.Itoa(few+1)); err != nil || found <= few {
			return all, err
		}
	}
	all, _, err := d.people(ctx, p, p.order()+` LIMIT `+strconv.Itoa(p.Limit))
	return all, err
}

func (p People) order() string {
	if p.Before != "" {
		return ` ORDER BY lower(email) DESC`
	}
	return ` ORDER BY lower(email)`
}

// people finds users, cut by limit, and returns a page of them and how many it found.
func (d *DB) people(ctx context.Context, p People, limit string) (all []Person, found int, err error) {
	where, args := "true", []any{d.Now(), d.Now().Add(-SessionIdle), p.Limit}
	and := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	if p.Merchant != (pg.ID{}) {
		and(`merchant_id = $%d`, p.Merchant)
	}
	if p.Role != "" {
		and(`role = $%d`, p.Role)
	}
	for _, word := range strings.Fields(p.Search) {
		and(`words LIKE search_fold($%d)`, pg.Contains(word))
	}
	if p.Before != "" {
		and(`lower(email) < $%d`, strings.ToLower(p.Before))
	} else if p.After != "" {
		and(`lower(email) > $%d`, strings.ToLower(p.After))
	}
	rows, err := d.Pool.Query(ctx, `
		WITH found AS MATERIALIZED (SELECT id, lower(email) AS email FROM users WHERE `+where+limit+`)
		SELECT `+userColumns+`, coalesce(m.name, ''), u.seen_at,
			(SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.expires_at > $1 AND s.seen_at > $2),
			u.role = 'admin' AND u.locked_at IS NULL AND u.password_hash <> ''
			AND NOT EXISTS (SELECT FROM users o WHERE o.role = 'admin' AND o.locked_at IS NULL AND o.password_hash <> '' AND o.id <> u.id),
			(SELECT count(*) FROM found)
		FROM (SELECT id FROM found`+p.order()+` LIMIT $3) f JOIN users u ON u.id = f.id LEFT JOIN merchants m ON m.id = u.merchant_id`+
		strings.ReplaceAll(p.order(), "email", "u.email"), args...)
	if err == nil {
		all, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Person, error) {
			var one Person
			err := row.Scan(append(userTargets(&one.User), &one.Merchant, &one.SeenAt, &one.Sessions, &one.LastAdmin, &found)...)
			return one, err
		})
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read people: %w", err)
	}
	if p.Before != "" {
		slices.Reverse(all)
	}
	return all, found, nil
}
