package account

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/alexedwards/argon2id"
	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// Authenticate returns the user with this e-mail address and password. It returns ErrWrongPassword if they do not belong together,
// there is no such user, or the user is locked or only invited: the answers are the same and take the same time. A hash made with
// older parameters is replaced.
func (s *Store) Authenticate(ctx context.Context, email, password string) (User, error) {
	var u User
	var hash string
	err := s.db.Pool.QueryRow(ctx, `SELECT `+userColumns+`, u.password_hash FROM users u WHERE lower(u.email) = lower($1)`, text.Email(email)).
		Scan(append(userTargets(&u), &hash)...)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return u, fmt.Errorf("read user: %w", err)
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
		if _, err := pg.Exec(ctx, s.db.Pool, "replace a password's hash", `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`, u.ID, hash, fresh); err != nil {
			return u, err
		}
	}
	return u, nil
}

// IsPassword reports whether text is the user's own password. The caller limits how often it is asked.
func (s *Store) IsPassword(ctx context.Context, user pg.ID, text string) (bool, error) {
	hash, err := pg.One(ctx, s.db.Pool, "read user", pgx.RowTo[string], `SELECT password_hash FROM users WHERE id = $1`, user)
	if err != nil || hash == "" {
		return false, err
	}
	is, _, err := s.passwords.matches(ctx, text, hash)
	return is, err
}

// ChangePassword sets a user's own new password and ends all their sessions but the one whose hash is keep. It returns
// ErrWrongPassword if old is not the present password.
func (s *Store) ChangePassword(ctx context.Context, by audit.Actor, user pg.ID, old, fresh string, keep []byte) error {
	oldHash, err := pg.One(ctx, s.db.Pool, "read user", pgx.RowTo[string], `SELECT password_hash FROM users WHERE id = $1`, user)
	if err != nil {
		return err
	}
	ok, _, err := s.passwords.matches(ctx, old, oldHash)
	if err != nil {
		return err
	}
	if !ok {
		return ErrWrongPassword
	}
	hash, err := s.passwords.hash(ctx, fresh)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		changed, err := pg.Exec(ctx, tx, "change password", `UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2`, user, oldHash, hash)
		if err != nil {
			return err
		}
		if changed == 0 {
			return ErrWrongPassword // changed elsewhere meanwhile
		}
		if err := s.endAccess(ctx, tx, user, keep); err != nil {
			return err
		}
		return s.audit.Add(ctx, tx, audit.Event{Kind: status.UserPasswordChanged, Actor: by})
	})
}

// SetPassword spends the link of an invitation or a forgotten password: the user has this password from now on, every other link
// of theirs is spent and every session ended. An empty name keeps the present one; address is where the request came from. It
// returns text.ErrTooLong, and ErrInvalidLink if the link is unknown, spent or too old, or its user locked.
func (s *Store) SetPassword(ctx context.Context, kind LinkKind, secret pg.Secret, name, password, address string) (User, error) {
	if text.Length(name) > text.MaxName {
		return User{}, text.ErrTooLong
	}
	name = text.Name(name)
	link, err := s.Link(ctx, kind, secret)
	if err != nil {
		return User{}, err
	}
	hash, err := s.passwords.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	u := link.User
	err = s.db.Tx(ctx, func(tx pgx.Tx) error {
		if err := s.spend(ctx, tx, link.ID); err != nil {
			return err
		}
		changed, err := pg.Exec(ctx, tx, "set password", `UPDATE users SET password_hash = $2, name = coalesce(nullif($3, ''), name) WHERE id = $1 AND locked_at IS NULL`,
			u.ID, hash, name)
		if err != nil {
			return err
		}
		if changed == 0 {
			return ErrInvalidLink
		}
		if err := search.AddWords(ctx, tx, name); err != nil {
			return err
		}
		if err := s.endAccess(ctx, tx, u.ID, nil); err != nil {
			return err
		}
		kind := status.UserPasswordChanged
		if link.Kind == LinkInvitation {
			kind = status.UserInvitationAccepted
		}
		by := audit.Actor{Role: u.Role, ID: u.ID, Address: address}
		return s.audit.Add(ctx, tx, audit.Event{Kind: kind, Actor: by, MerchantID: u.MerchantID, Note: u.Email})
	})
	return u, err
}

// endAccess ends a user's sessions but the one whose hash is keep, and the links by which a password could be set.
func (s *Store) endAccess(ctx context.Context, tx pgx.Tx, user pg.ID, keep []byte) error {
	if err := endSessions(ctx, tx, user, keep); err != nil {
		return err
	}
	_, err := pg.Exec(ctx, tx, "end links", `UPDATE links SET spent_at = $2 WHERE user_id = $1 AND kind <> 'reconnect' AND spent_at IS NULL`, user, s.db.Now())
	return err
}

// hasher makes and compares hashes of passwords. A hash takes 19 MiB and 20 ms, so at most two are computed at once.
type hasher struct {
	params argon2id.Params
	slots  chan struct{}
	idle   *time.Timer
}

// idleAfter is how long after the last hash its memory is given back to the system. The garbage collector alone would keep
// three times 19 MiB for minutes: more than everything else that an idle server needs.
const idleAfter = time.Second

func newHasher() *hasher {
	h := &hasher{
		params: argon2id.Params{Memory: 19 << 10, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32},
		slots:  make(chan struct{}, 2),
		idle:   time.AfterFunc(idleAfter, debug.FreeOSMemory),
	}
	h.idle.Stop()
	return h
}

// decoy is the hash of a password that nobody has. It is compared with when there is no such user, so that the answer takes as
// long either way.
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
