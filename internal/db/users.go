package db

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// User is a person: a merchant's, or the platform's own staff.
type User struct {
	ID         ID
	MerchantID ID // zero for staff
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

func userTargets(u *User) ([]any, func()) {
	var merchantID *ID
	var locked *time.Time
	return []any{&u.ID, &merchantID, &u.Role, &u.Email, &u.Name, &u.Locale, &locked, &u.CreatedAt, &u.Invited}, func() {
		u.MerchantID, u.LockedAt, u.CreatedAt = idOrZero(merchantID), timeOrZero(locked), u.CreatedAt.UTC()
	}
}

// NewUser is what AddUser is told. A merchant's user has MerchantID or MerchantName.
type NewUser struct {
	Role, Email, Name, Locale string
	Password                  string // "" when an invitation is to follow
	MerchantID                ID
	MerchantName              string // the merchant is made when none has this name; ErrSeveral when several have
}

// AddUser adds a person. ErrEmail, ErrEmailTaken, ErrRole, ErrSeveral, ErrNotFound (no such merchant).
func (d *DB) AddUser(ctx context.Context, by By, n NewUser) (User, error) {
	u := User{ID: NewID(), MerchantID: n.MerchantID, Role: n.Role, Name: strings.TrimSpace(n.Name), Locale: n.Locale, Invited: n.Password == ""}
	address, err := mail.ParseAddress(strings.TrimSpace(n.Email))
	if err != nil || address.Name != "" || len(address.Address) > 254 {
		return u, ErrEmail
	}
	u.Email = address.Address
	hasMerchant := n.MerchantID != (ID{}) || strings.TrimSpace(n.MerchantName) != ""
	if n.Role != RoleMerchant && !u.Staff() || hasMerchant != (n.Role == RoleMerchant) {
		return u, ErrRole
	}
	var hash string
	if n.Password != "" {
		if hash, err = d.passwords.hash(ctx, n.Password); err != nil {
			return u, err
		}
	}
	err = d.tx(ctx, func(tx pgx.Tx) error {
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
			u.ID, nullID(u.MerchantID), u.Role, u.Email, u.Name, hash, u.Locale, u.CreatedAt)
		if violates(err, "users_email") {
			return ErrEmailTaken
		}
		if err != nil {
			return fmt.Errorf("add user: %w", err)
		}
		return d.addEvent(ctx, tx, *(&Event{Kind: "user.added", MerchantID: u.MerchantID, Note: u.Email}).by(by))
	})
	return u, err
}

// merchantFor finds or makes the merchant of a new user. The lock keeps two from making the same name at once.
func (d *DB) merchantFor(ctx context.Context, tx pgx.Tx, by By, n NewUser) (Merchant, error) {
	if n.MerchantID != (ID{}) {
		return d.merchant(ctx, tx, `m.id = $1`, n.MerchantID)
	}
	name := strings.TrimSpace(n.MerchantName)
	if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended('merchant ' || lower($1), 0))`, name); err != nil {
		return Merchant{}, fmt.Errorf("lock a merchant's name: %w", err)
	}
	m, err := d.merchant(ctx, tx, `lower(m.name) = lower($1)`, name)
	if errors.Is(err, ErrNotFound) {
		return d.addMerchant(ctx, tx, by, Merchant{Name: name, Locale: n.Locale})
	}
	return m, err
}

// User finds a person by id.
func (d *DB) User(ctx context.Context, id ID) (User, error) {
	var u User
	targets, finish := userTargets(&u)
	if err := d.pool.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE u.id = $1`, id).Scan(targets...); err != nil {
		return u, fmt.Errorf("read user: %w", notFound(err))
	}
	finish()
	return u, nil
}

// UserByEmail finds a person by e-mail address, however it is capitalised.
func (d *DB) UserByEmail(ctx context.Context, email string) (User, error) {
	var u User
	targets, finish := userTargets(&u)
	err := d.pool.QueryRow(ctx, `SELECT `+userColumns+` FROM users u WHERE lower(u.email) = lower($1)`, strings.TrimSpace(email)).Scan(targets...)
	if err != nil {
		return u, fmt.Errorf("read user: %w", notFound(err))
	}
	finish()
	return u, nil
}

// Authenticate finds who has this e-mail address and password. ErrPassword when they do not belong together, there is
// no such person, or they are locked or only invited: the answers are alike and take alike. A hash made with yesterday's
// parameters is made anew.
func (d *DB) Authenticate(ctx context.Context, email, password string) (User, error) {
	var u User
	var hash string
	targets, finish := userTargets(&u)
	err := d.pool.QueryRow(ctx, `SELECT `+userColumns+`, u.password_hash FROM users u WHERE lower(u.email) = lower($1)`, strings.TrimSpace(email)).
		Scan(append(targets, &hash)...)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return u, fmt.Errorf("read user: %w", err)
	}
	finish()
	ok, stale, err := d.passwords.matches(ctx, password, hash)
	switch {
	case err != nil:
		return u, err
	case !ok || !u.LockedAt.IsZero():
		return u, ErrPassword
	case stale:
		if fresh, err := d.passwords.hash(ctx, password); err == nil {
			if _, err := d.pool.Exec(ctx, `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`, u.ID, hash, fresh); err != nil {
				return u, fmt.Errorf("renew a password's hash: %w", err)
			}
		}
	}
	return u, nil
}
