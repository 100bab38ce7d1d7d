package account

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"

	"patchbay/internal/audit"
	"patchbay/internal/keyring"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// Errors of second factors.
var (
	ErrWrongCode = errors.New("this code is wrong, too old, or was used before")
	ErrNoFactor  = errors.New("the user has no second factor")
)

// FactorState is what a user's second factor is made of.
type FactorState struct {
	Codes    bool // one-time codes
	Passkeys []Passkey
	Recovery int // recovery codes that are left
}

// factor is what is sealed of a user's second factor.
type factor struct {
	Secret   []byte              `json:"secret,omitempty"`   // of one-time codes; empty without
	Recovery [][sha256.Size]byte `json:"recovery,omitempty"` // the hashes of recovery codes, each of 80 random bits
	Passkeys []passkey           `json:"passkeys,omitempty"`
}

func (f factor) isEmpty() bool { return len(f.Secret) == 0 && len(f.Passkeys) == 0 }

// One-time codes are as apps expect them when nothing else is said: SHA-1, six digits, a step of 30 s (RFC 6238). A code of the step
// before or after is taken too, since clocks differ.
const (
	codeStep   = 30 // seconds
	codeSkew   = 1  // steps
	secretSize = 20 // bytes: RFC 4226 section 4
)

var codeOptions = hotp.ValidateOpts{Digits: otp.DigitsSix, Algorithm: otp.AlgorithmSHA1}

// recoveryCodes is how many recovery codes there are at first.
const recoveryCodes = 10

var letters = base32.StdEncoding.WithPadding(base32.NoPadding)

// matchingStep returns the time step whose code was typed. ok is false if no step near now has that code.
func matchingStep(secret []byte, typed string, now time.Time) (step int64, ok bool) {
	present := now.Unix() / codeStep
	for step := present - codeSkew; step <= present+codeSkew; step++ {
		valid, err := hotp.ValidateCustom(typed, uint64(step), letters.EncodeToString(secret), codeOptions)
		if err == nil && valid {
			return step, true
		}
	}
	return 0, false
}

// Setup is what an app for one-time codes is given.
type Setup struct {
	Secret string // in letters and digits
	URL    string // otpauth://, for the QR code
}

// NewSetup returns what a user sets up an app with, in one session. Until TurnOnCodes it is kept nowhere: it is derived, so that the page
// can be opened again, and another session's is another.
func (s *Store) NewSetup(u User, session Session, issuer string) Setup {
	secret := letters.EncodeToString(s.setupSecret(u, session))
	values := url.Values{"secret": {secret}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {"6"}, "period": {strconv.Itoa(codeStep)}}
	// PathEscape and a query with %20: some apps show a plus sign as it is.
	return Setup{
		Secret: secret,
		URL:    "otpauth://totp/" + url.PathEscape(issuer+":"+u.Email) + "?" + strings.ReplaceAll(values.Encode(), "+", "%20"),
	}
}

// setupSecret is known by when the session began, since a proof gives it another secret.
func (s *Store) setupSecret(u User, session Session) []byte {
	return s.db.Derive("secret of one-time codes", fmt.Sprintf("%s|%d|%d", u.ID, session.CreatedAt.UnixMicro(), u.accessVersion))[:secretSize]
}

// Factors returns what a user's second factor is made of.
func (s *Store) Factors(ctx context.Context, user pg.ID) (FactorState, error) {
	f, err := s.readFactor(ctx, s.db.Pool, user, "")
	if errors.Is(err, ErrNoFactor) {
		return FactorState{}, nil
	}
	state := FactorState{Codes: len(f.Secret) > 0, Recovery: len(f.Recovery)}
	for _, one := range f.Passkeys {
		state.Passkeys = append(state.Passkeys, Passkey{ID: one.id(), Name: one.Name, AddedAt: one.AddedAt, UsedAt: one.UsedAt})
	}
	return state, err
}

// TurnOnCodes turns on one-time codes, with the secret of NewSetup, once a code proves that an app has it. If these are the user's first
// second factor it ends their other sessions, completes this one, whose secret is next from then on, and returns recovery codes. It returns ErrWrongCode.
func (s *Store) TurnOnCodes(ctx context.Context, by audit.Actor, u User, session Session, next pg.Secret, typed string, jobs notify.Queue) (recovery []string, err error) {
	secret := s.setupSecret(u, session)
	step, ok := matchingStep(secret, plainCode(typed), s.db.Now())
	if !ok {
		return nil, ErrWrongCode
	}
	err = s.db.Tx(ctx, func(tx pgx.Tx) error {
		recovery, err = s.addFactor(ctx, tx, u, session.Hash, next, func(f *factor) error {
			f.Secret = secret
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := pg.Exec(ctx, tx, "use code", `UPDATE second_factors SET step = $2 WHERE user_id = $1`, u.ID, step); err != nil {
			return err
		}
		return s.factorChanged(ctx, tx, by, u, status.UserFactorOn, notify.MailFactorOn, jobs)
	})
	return recovery, err
}

// addFactor adds to a user's second factor. With the first it makes recovery codes, ends all other access and completes the session.
func (s *Store) addFactor(ctx context.Context, tx pgx.Tx, u User, session []byte, next pg.Secret, add func(*factor) error) (recovery []string, err error) {
	err = s.db.Change(ctx, tx, keyring.SignedUsers, u.ID, func() error {
		_, err := pg.Exec(ctx, tx, "note second factor", `UPDATE users SET second_factor_at = coalesce(second_factor_at, $2) WHERE id = $1`, u.ID, s.db.Now())
		return err
	})
	if err != nil {
		return nil, err
	}
	f, err := s.readFactor(ctx, tx, u.ID, ` FOR UPDATE`)
	first := errors.Is(err, ErrNoFactor)
	if err != nil && !first {
		return nil, err
	}
	if first {
		recovery, f.Recovery = newRecovery()
	}
	if err := add(&f); err != nil {
		return nil, err
	}
	if err := s.writeFactor(ctx, tx, u.ID, f); err != nil || !first {
		return nil, err
	}
	if _, err := s.endAccess(ctx, tx, u.ID, session); err != nil {
		return nil, err
	}
	return recovery, s.complete(ctx, tx, session, next)
}

// complete notes that the person of a session has just proved who they are, with all that they must. The session's secret is next from
// then on, and the one of before opens nothing (ASVS 5.0, 7.2.4). It returns pg.ErrNotFound if the session has ended.
func (s *Store) complete(ctx context.Context, tx pgx.Tx, session []byte, next pg.Secret) error {
	err := s.db.Change(ctx, tx, keyring.SignedSessions, session, func() error {
		_, err := pg.Exec(ctx, tx, "complete session", `UPDATE sessions SET half = false, proved_at = $2 WHERE id_hash = $1`, session, s.db.Now())
		return err
	})
	if err != nil {
		return err
	}
	if _, err := pg.Exec(ctx, tx, "change a session's secret", `UPDATE sessions SET id_hash = $2 WHERE id_hash = $1`, session, next.Hash()); err != nil {
		return err
	}
	return s.db.Sign(ctx, tx, keyring.SignedSessions, next.Hash())
}

// Prove spends a one-time code or a recovery code of a user, and completes the session, whose secret is next from then on. It returns
// ErrWrongCode, which it notes as an event. The caller limits how often it is asked. A user without a second factor proves nothing by codes.
func (s *Store) Prove(ctx context.Context, by audit.Actor, u User, session []byte, next pg.Secret, typed string, jobs notify.Queue) error {
	typed = plainCode(typed)
	err := s.db.Tx(ctx, func(tx pgx.Tx) error {
		f, err := s.readFactor(ctx, tx, u.ID, ` FOR UPDATE`)
		if err != nil {
			return err
		}
		if err := s.spendCode(ctx, tx, by, u, f, typed, jobs); err != nil {
			return err
		}
		return s.complete(ctx, tx, session, next)
	})
	if errors.Is(err, ErrNoFactor) {
		err = ErrWrongCode
	}
	if errors.Is(err, ErrWrongCode) {
		err = errors.Join(err, s.audit.Record(ctx, audit.Event{Kind: status.UserFactorFailed, Actor: by}))
	}
	return err
}

func (s *Store) spendCode(ctx context.Context, tx pgx.Tx, by audit.Actor, u User, f factor, typed string, jobs notify.Queue) error {
	if len(f.Secret) > 0 && len(typed) == codeOptions.Digits.Length() {
		step, ok := matchingStep(f.Secret, typed, s.db.Now())
		if !ok {
			return ErrWrongCode
		}
		spent, err := pg.Exec(ctx, tx, "use code", `UPDATE second_factors SET step = $2 WHERE user_id = $1 AND step < $2`, u.ID, step)
		if err == nil && spent == 0 {
			err = ErrWrongCode
		}
		return err
	}
	at := slices.Index(f.Recovery, sha256.Sum256([]byte(typed)))
	if at < 0 {
		return ErrWrongCode
	}
	f.Recovery = slices.Delete(f.Recovery, at, at+1)
	if err := s.writeFactor(ctx, tx, u.ID, f); err != nil {
		return err
	}
	return s.factorChanged(ctx, tx, by, u, status.UserRecoveryUsed, notify.MailRecoveryUsed, jobs)
}

// Proved notes that the person of a session, who has a password alone, has proved again who they are. The session's secret is next from
// then on.
func (s *Store) Proved(ctx context.Context, by audit.Actor, session []byte, next pg.Secret) error {
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		if err := s.complete(ctx, tx, session, next); err != nil {
			return err
		}
		return s.audit.Add(ctx, tx, audit.Event{Kind: status.UserProved, Actor: by})
	})
}

// NewRecoveryCodes replaces a user's recovery codes. It returns ErrNoFactor.
func (s *Store) NewRecoveryCodes(ctx context.Context, by audit.Actor, u User) (recovery []string, err error) {
	err = s.db.Tx(ctx, func(tx pgx.Tx) error {
		f, err := s.readFactor(ctx, tx, u.ID, ` FOR UPDATE`)
		if err != nil {
			return err
		}
		recovery, f.Recovery = newRecovery()
		if err := s.writeFactor(ctx, tx, u.ID, f); err != nil {
			return err
		}
		return s.audit.Add(ctx, tx, audit.Event{Kind: status.UserRecoveryMade, Actor: by, MerchantID: u.MerchantID, Note: u.Email})
	})
	return recovery, err
}

// TurnOffCodes turns off a user's own one-time codes. It returns ErrNoFactor.
func (s *Store) TurnOffCodes(ctx context.Context, by audit.Actor, u User, jobs notify.Queue) error {
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		if err := s.removeFactor(ctx, tx, u.ID, func(f *factor) { f.Secret = nil }); err != nil {
			return err
		}
		return s.factorChanged(ctx, tx, by, u, status.UserFactorOff, notify.MailFactorOff, jobs)
	})
}

// ResetFactor takes the whole second factor from a user who has lost it, and ends their sessions. It returns ErrNoFactor, and
// pg.ErrNotFound if there is no such user.
func (s *Store) ResetFactor(ctx context.Context, by audit.Actor, user pg.ID, jobs notify.Queue) error {
	u, err := s.User(ctx, user)
	if err != nil {
		return err
	}
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		if err := s.removeFactor(ctx, tx, user, func(f *factor) { *f = factor{} }); err != nil {
			return err
		}
		if _, err := s.endAccess(ctx, tx, user, nil); err != nil {
			return err
		}
		return s.factorChanged(ctx, tx, by, u, status.UserFactorReset, notify.MailFactorOff, jobs)
	})
}

// removeFactor takes from a user's second factor. If nothing is left, the user has none. A row that is missing or does not open counts
// as a second factor that has nothing left.
func (s *Store) removeFactor(ctx context.Context, tx pgx.Tx, user pg.ID, remove func(*factor)) error {
	return s.db.Change(ctx, tx, keyring.SignedUsers, user, func() error {
		has, err := pg.One(ctx, tx, "read user", pgx.RowTo[bool], `SELECT second_factor_at IS NOT NULL FROM users WHERE id = $1`, user)
		if err == nil && !has {
			err = ErrNoFactor
		}
		if err != nil {
			return err
		}
		f, err := s.readFactor(ctx, tx, user, ` FOR UPDATE`)
		if err != nil && !errors.Is(err, ErrNoFactor) && !errors.Is(err, seal.ErrSealed) {
			return err
		}
		if remove(&f); !f.isEmpty() {
			return s.writeFactor(ctx, tx, user, f)
		}
		if _, err := pg.Exec(ctx, tx, "drop second factor", `DELETE FROM second_factors WHERE user_id = $1`, user); err != nil {
			return err
		}
		_, err = pg.Exec(ctx, tx, "note second factor", `UPDATE users SET second_factor_at = NULL WHERE id = $1`, user)
		return err
	})
}

// factorChanged writes the event of a change and enqueues the mail that says so. jobs may be nil.
func (s *Store) factorChanged(ctx context.Context, tx pgx.Tx, by audit.Actor, u User, kind status.Kind, mail notify.MailKind, jobs notify.Queue) error {
	if jobs != nil {
		if err := jobs.EnqueueMail(ctx, tx, notify.Mail{Kind: mail, User: u.ID, By: by.ID}); err != nil {
			return fmt.Errorf("enqueue mail: %w", err)
		}
	}
	return s.audit.Add(ctx, tx, audit.Event{Kind: kind, Actor: by, MerchantID: u.MerchantID, Note: u.Email})
}

func factorPlace(user pg.ID) seal.Place {
	return seal.Place{Table: "second_factors", Column: "sealed", Row: user}
}

// readFactor returns a user's second factor, ErrNoFactor if there is none, and seal.ErrSealed if it is not this user's.
func (s *Store) readFactor(ctx context.Context, q pg.Querier, user pg.ID, lock string) (f factor, err error) {
	sealed, err := pg.One(ctx, q, "read second factor", pgx.RowTo[[]byte], `SELECT sealed FROM second_factors WHERE user_id = $1`+lock, user)
	if errors.Is(err, pg.ErrNotFound) {
		return f, ErrNoFactor
	}
	if err != nil {
		return f, err
	}
	plain, err := s.db.Unseal(sealed, factorPlace(user))
	if err != nil {
		return f, err
	}
	if err := json.NewDecoder(bytes.NewReader(plain)).Decode(&f); err != nil {
		return f, fmt.Errorf("read second factor: %w", err)
	}
	return f, nil
}

func (s *Store) writeFactor(ctx context.Context, tx pgx.Tx, user pg.ID, f factor) error {
	plain, err := json.Marshal(f)
	if err != nil {
		return fmt.Errorf("write second factor: %w", err)
	}
	sealed, err := s.db.Keyset.Seal(plain, factorPlace(user))
	if err != nil {
		return err
	}
	_, err = pg.Exec(ctx, tx, "write second factor", `INSERT INTO second_factors (user_id, sealed) VALUES ($1, $2)
		ON CONFLICT (user_id) DO UPDATE SET sealed = excluded.sealed`, user, sealed)
	return err
}

// newRecovery makes recovery codes: in groups of four for people, and hashed.
func newRecovery() (shown []string, hashes [][sha256.Size]byte) {
	for range recoveryCodes {
		random := make([]byte, 10)
		rand.Read(random) // never fails: it ends the program instead
		code := letters.EncodeToString(random)
		hashes = append(hashes, sha256.Sum256([]byte(code)))
		shown = append(shown, Grouped(code, "-"))
	}
	return shown, hashes
}

// Grouped puts a sign between every four letters.
func Grouped(text, between string) string {
	var groups []string
	for group := range slices.Chunk([]rune(text), 4) {
		groups = append(groups, string(group))
	}
	return strings.Join(groups, between)
}

// plainCode returns a typed code as it is compared: capitals and Latin digits, without what stands between groups.
func plainCode(typed string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= '០' && r <= '៩': // Khmer
			return r - '០' + '0'
		case r >= '0' && r <= '9', r >= 'A' && r <= 'Z':
			return r
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		default:
			return -1
		}
	}, typed)
}
