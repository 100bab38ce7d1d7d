package account

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/alexedwards/argon2id"
	"github.com/jackc/pgx/v5"
	"github.com/trustelem/zxcvbn"

	"patchbay/internal/audit"
	"patchbay/internal/keyring"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// Authenticate returns the user with this e-mail address and password. It returns ErrWrongPassword if they do not belong together,
// there is no such user, or the user is locked or only invited: the answers are the same and take the same time. A hash made with
// older parameters is replaced. known is whether the browser has signed in as this user before: a flood of strangers does not keep
// it waiting. It returns ErrBusy if too many wait already.
func (s *Store) Authenticate(ctx context.Context, email, password string, known bool) (User, error) {
	if text.Length(password) > maxPassword {
		return User{}, ErrWrongPassword
	}
	if !known {
		done, err := s.passwords.queueUnknown(ctx)
		if err != nil {
			return User{}, err
		}
		defer done()
	}
	var u User
	var hash string
	var g signature
	err := s.db.Pool.QueryRow(ctx, `SELECT `+userColumns+`, `+signedUser+`, u.password_hash FROM users u WHERE lower(u.email) = lower($1) AND u.password_hash <> 'sso'`, text.Email(email)).
		Scan(append(append(userTargets(&u), g.targets()...), &hash)...)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return u, fmt.Errorf("read user: %w", err)
	}
	if err == nil {
		err = s.authenticate(keyring.SignedUsers, g)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		u, hash = User{}, ""
	case err != nil:
		return User{}, err
	}
	ok, stale, err := s.passwords.matches(ctx, password, hash)
	switch {
	case err != nil:
		return u, err
	case !ok || !u.LockedAt.IsZero():
		return u, ErrWrongPassword
	case stale:
		fresh, err := s.passwords.hash(ctx, password)
		if err != nil {
			return u, nil // the old hash serves
		}
		err = s.db.Tx(ctx, func(tx pgx.Tx) error {
			return s.db.Change(ctx, tx, keyring.SignedUsers, u.ID, func() error {
				_, err := pg.Exec(ctx, tx, "replace a password's hash", `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`, u.ID, hash, fresh)
				return err
			})
		})
		if err != nil {
			return u, err
		}
	}
	return u, nil
}

// IsPassword reports whether what was typed is the user's own password. The caller limits how often it is asked.
func (s *Store) IsPassword(ctx context.Context, user pg.ID, typed string) (bool, error) {
	if text.Length(typed) > maxPassword {
		return false, nil
	}
	hash, err := pg.One(ctx, s.db.Pool, "read user", pgx.RowTo[string], `SELECT password_hash FROM users WHERE id = $1`, user)
	if err != nil || hash == "" || hash == ssoPasswordHash {
		return false, err
	}
	is, _, err := s.passwords.matches(ctx, typed, hash)
	return is, err
}

// ChangePassword sets a user's own new password in a session, ends all their other ones, and returns the user as AddSession takes them
// to put a new session in this one's place. It returns ErrWrongPassword if old is not the present password, and ErrTooShort, ErrTooLong or ErrTooCommon
// for the new one.
func (s *Store) ChangePassword(ctx context.Context, by audit.Actor, u User, old, fresh string, in Session, jobs notify.Queue) (User, error) {
	if text.Length(old) > maxPassword {
		return u, ErrWrongPassword
	}
	if err := s.CheckPassword(fresh, u.Email, u.Name); err != nil {
		return u, err
	}
	oldHash, err := pg.One(ctx, s.db.Pool, "read user", pgx.RowTo[string], `SELECT password_hash FROM users WHERE id = $1`, u.ID)
	if err != nil {
		return u, err
	}
	if oldHash == ssoPasswordHash {
		return u, ErrWrongPassword
	}
	ok, _, err := s.passwords.matches(ctx, old, oldHash)
	if err != nil {
		return u, err
	}
	if !ok {
		return u, ErrWrongPassword
	}
	hash, err := s.passwords.hash(ctx, fresh)
	if err != nil {
		return u, err
	}
	err = s.db.Tx(ctx, func(tx pgx.Tx) error {
		err := s.db.Change(ctx, tx, keyring.SignedUsers, u.ID, func() error {
			changed, err := pg.Exec(ctx, tx, "change password", `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`, u.ID, oldHash, hash)
			if err == nil && changed == 0 {
				err = ErrWrongPassword // changed elsewhere meanwhile
			}
			return err
		})
		if err != nil {
			return err
		}
		if u.accessVersion, err = s.endAccess(ctx, tx, u.ID, in.Hash); err != nil {
			return err
		}
		u.proved = in.ProvedAt
		if err := mailPasswordChanged(ctx, tx, u, jobs); err != nil {
			return err
		}
		return s.audit.Add(ctx, tx, audit.Event{Kind: status.UserPasswordChanged, Actor: by})
	})
	return u, err
}

// SetPassword spends the link of an invitation or a forgotten password: the user has this password from now on, every other link
// of theirs is spent and every session ended. An empty name keeps the present one; address is where the request came from. It
// returns text.ErrTooLong for the name, ErrTooShort, ErrTooLong or ErrTooCommon for the password, and ErrInvalidLink if the link is unknown, spent or too old, or its user
// locked or one who signs in through the platform.
func (s *Store) SetPassword(ctx context.Context, kind LinkKind, secret pg.Secret, name, password, address string, jobs notify.Queue) (User, error) {
	if text.Length(name) > text.MaxName {
		return User{}, text.ErrTooLong
	}
	name = text.Name(name)
	link, err := s.Link(ctx, kind, secret)
	if err != nil {
		return User{}, err
	}
	u := link.User
	if err := s.CheckPassword(password, u.Email, u.Name, name); err != nil {
		return u, err
	}
	hash, err := s.passwords.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	err = s.db.Tx(ctx, func(tx pgx.Tx) error {
		if err := s.spend(ctx, tx, link.ID); err != nil {
			return err
		}
		err := s.db.Change(ctx, tx, keyring.SignedUsers, u.ID, func() error {
			changed, err := pg.Exec(ctx, tx, "set password", `UPDATE users SET password_hash = $2, name = coalesce(nullif($3, ''), name) WHERE id = $1 AND locked_at IS NULL AND password_hash <> 'sso'`,
				u.ID, hash, name)
			if err == nil && changed == 0 {
				err = ErrInvalidLink
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := search.AddWords(ctx, tx, name); err != nil {
			return err
		}
		if u.accessVersion, err = s.endAccess(ctx, tx, u.ID, nil); err != nil {
			return err
		}
		kind := status.UserPasswordChanged
		if link.Kind == LinkInvitation {
			kind = status.UserInvitationAccepted
		} else if err := mailPasswordChanged(ctx, tx, u, jobs); err != nil {
			return err
		}
		by := audit.Actor{Role: u.Role, ID: u.ID, Address: address}
		return s.audit.Add(ctx, tx, audit.Event{Kind: kind, Actor: by, MerchantID: u.MerchantID, Note: u.Email})
	})
	return u, err
}

// mailPasswordChanged has the user mailed that their password is another one. jobs may be nil.
func mailPasswordChanged(ctx context.Context, tx pgx.Tx, u User, jobs notify.Queue) error {
	if jobs == nil {
		return nil
	}
	if err := jobs.EnqueueMail(ctx, tx, notify.Mail{Kind: notify.MailPasswordChanged, User: u.ID}); err != nil {
		return fmt.Errorf("enqueue mail: %w", err)
	}
	return nil
}

// endAccess ends a user's sessions but the one whose hash is keep, the links by which a password could be set, and sign-ins that
// are under way. It returns the version that a new session needs.
func (s *Store) endAccess(ctx context.Context, tx pgx.Tx, user pg.ID, keep []byte) (version int64, err error) {
	version, err = pg.One(ctx, tx, "end sign-ins", pgx.RowTo[int64], `UPDATE users SET access_version = access_version + 1 WHERE id = $1 RETURNING access_version`, user)
	if err != nil {
		return 0, err
	}
	if err := endSessions(ctx, tx, user, keep); err != nil {
		return 0, err
	}
	_, err = pg.Exec(ctx, tx, "end links", `UPDATE links SET spent_at = $2 WHERE user_id = $1 AND kind <> 'reconnect' AND spent_at IS NULL`, user, s.db.Now())
	return version, err
}

// How many characters a password has. maxPassword also bounds how long hashing one takes.
const (
	minPassword = 10
	maxPassword = 1000
)

// Errors of new passwords.
var (
	ErrTooShort  = errors.New("a password has at least 10 characters")
	ErrTooLong   = errors.New("a password has at most 1,000 characters")
	ErrTooCommon = errors.New("this password is guessed too soon: it is common, regular, or what the person or this site is called")
)

// minGuesses is how many guesses an attacker who knows the common passwords, words and patterns must need: more than the limits of
// sign-in allow in years.
const minGuesses = 1e8

// CheckPassword returns ErrTooShort, ErrTooLong or ErrTooCommon for a new password that is not good enough. about is what attackers
// know of the person, beside the platform's names: address and name.
func (s *Store) CheckPassword(password string, about ...string) error {
	password = text.Password(password)
	switch n := utf8.RuneCountInString(password); {
	case n < minPassword:
		return ErrTooShort
	case n > maxPassword:
		return ErrTooLong
	}
	known := []string{"patchbay"}
	for _, one := range append(about, s.platform...) {
		words := strings.FieldsFunc(one, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
		known = append(append(known, one, strings.Join(words, "")), words...)
	}
	// What follows a beginning that is good enough makes it no worse, and estimating takes ever longer.
	beginning := []rune(password)
	if zxcvbn.PasswordStrength(string(beginning[:min(len(beginning), 50)]), known).Guesses < minGuesses {
		return ErrTooCommon
	}
	return nil
}

// hasher makes and compares hashes of passwords. A hash takes 19 MiB and 20 ms, so at most two are computed at once, and at most
// one of them for a browser that never signed in here.
type hasher struct {
	params  argon2id.Params
	slots   chan struct{}
	unknown chan struct{} // one for the unknown browser whose turn it is, and one for each that waits
	turn    chan struct{} // the unknown browser whose turn it is
	idle    *time.Timer
}

// ErrBusy is returned when too many unknown browsers wait for their passwords to be compared.
var ErrBusy = errors.New("too many sign-ins at once")

// maxWaiting is how many unknown browsers may wait, about a second.
const maxWaiting = 32

// queueUnknown waits for the turn of a browser that never signed in here. It returns ErrBusy if too many wait already.
func (h *hasher) queueUnknown(ctx context.Context) (done func(), err error) {
	select {
	case h.unknown <- struct{}{}:
	default:
		return nil, ErrBusy
	}
	select {
	case h.turn <- struct{}{}:
		return func() { <-h.turn; <-h.unknown }, nil
	case <-ctx.Done():
		<-h.unknown
		return nil, ctx.Err()
	}
}

// idleAfter is how long after the last hash its memory is given back to the system. The garbage collector alone would keep
// three times 19 MiB for minutes: more than everything else that an idle server needs.
const idleAfter = time.Second

func newHasher() *hasher {
	h := &hasher{
		params: argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32},
		slots:  make(chan struct{}, 2),
		turn:   make(chan struct{}, 1), unknown: make(chan struct{}, 1+maxWaiting),
		idle: time.AfterFunc(idleAfter, debug.FreeOSMemory),
	}
	h.idle.Stop()
	return h
}

// decoy is the hash of a password that no user has. It is compared with if there is no such user, so that the answer takes as long
// either way.
const decoy = "$argon2id$v=19$m=19456,t=2,p=1$wGf2sIBB6rATvEAujf0kjw$/iMdrSaf3CXPVRxn3nF4y305XhcR1ZYjI8+KfAVhZ3U"

// acquire waits for a slot. release gives it back.
func (h *hasher) acquire(ctx context.Context) (release func(), err error) {
	select {
	case h.slots <- struct{}{}:
		return func() {
			<-h.slots
			h.idle.Reset(idleAfter)
		}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (h *hasher) hash(ctx context.Context, password string) (string, error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return "", err
	}
	defer release()
	hash, err := argon2id.CreateHash(text.Password(password), &h.params)
	if err != nil {
		return "", fmt.Errorf("hash a password: %w", err)
	}
	return hash, nil
}

// matches compares a password with a hash. stale reports that the hash was made with other parameters than the present ones, or of
// the password as it was typed, in another form than the present one. An empty hash matches nothing.
func (h *hasher) matches(ctx context.Context, password, hash string) (ok, stale bool, err error) {
	release, err := h.acquire(ctx)
	if err != nil {
		return false, false, err
	}
	defer release()
	none := hash == ""
	if none {
		hash = decoy
	}
	normal := text.Password(password)
	ok, made, err := argon2id.CheckHash(normal, hash)
	if err == nil && !ok && normal != password {
		ok, made, err = argon2id.CheckHash(password, hash)
		stale = ok
	}
	if err != nil {
		return false, false, fmt.Errorf("compare a password: %w", err)
	}
	return ok && !none, stale || *made != h.params, nil
}
