package account

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"
	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// Errors of passkeys.
var (
	ErrWrongPasskey    = errors.New("this passkey is not the user's, or it does not answer this browser's challenge")
	ErrTooManyPasskeys = errors.New("the user has as many passkeys as there may be")

	errCloned = errors.New("the passkey's counter did not grow")
)

// maxPasskeys is how many passkeys a user may have.
const maxPasskeys = 10

// challengeLifetime is for how long an answer to a challenge is waited for.
const challengeLifetime = 5 * time.Minute

// PasskeyPurpose is what a challenge is for. An answer to a challenge for one purpose is not taken for another.
type PasskeyPurpose string

// The purposes.
const (
	PasskeySignIn PasskeyPurpose = "sign-in" // of a user who is not known before
	PasskeyProof  PasskeyPurpose = "proof"   // by a user who is known
	PasskeyAdd    PasskeyPurpose = "add"
)

// Passkey is a passkey of a user, as it is listed.
type Passkey struct {
	ID      string
	Name    string
	AddedAt time.Time
	UsedAt  time.Time // zero if never
}

// passkey is what is sealed of a passkey.
type passkey struct {
	Name       string              `json:"name"`
	AddedAt    time.Time           `json:"added_at"`
	UsedAt     time.Time           `json:"used_at,omitzero"`
	Credential webauthn.Credential `json:"credential"`
}

func (p passkey) id() string { return base64.RawURLEncoding.EncodeToString(p.Credential.ID) }

// RelyingParty is what browsers and authenticators know this installation as (WebAuthn section 4).
type RelyingParty struct{ rp *webauthn.WebAuthn }

// NewRelyingParty returns the relying party of the pages' origin. It returns nil if their host is an IP address, which no passkey can
// belong to.
func NewRelyingParty(public *url.URL, name string) (*RelyingParty, error) {
	if _, err := netip.ParseAddr(public.Hostname()); err == nil {
		return nil, nil
	}
	required := true
	rp, err := webauthn.New(&webauthn.Config{
		RPID: public.Hostname(), RPDisplayName: name, RPOrigins: []string{public.Scheme + "://" + public.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		// Verification makes a passkey two factors: what one has, and what one knows or is.
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			RequireResidentKey: &required, ResidentKey: protocol.ResidentKeyRequirementRequired, UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("relying party: %w", err)
	}
	return &RelyingParty{rp}, nil
}

// Browser is the browser that passkeys are used in.
type Browser struct {
	RelyingParty *RelyingParty
	Secret       pg.Secret
}

// passkeyUser is a user as the library sees one.
type passkeyUser struct {
	user User
	has  []passkey
}

func (p passkeyUser) WebAuthnID() []byte          { return p.user.ID[:] }
func (p passkeyUser) WebAuthnName() string        { return p.user.Email }
func (p passkeyUser) WebAuthnDisplayName() string { return p.user.Email }

func (p passkeyUser) WebAuthnCredentials() []webauthn.Credential {
	var all []webauthn.Credential
	for _, one := range p.has {
		all = append(all, one.Credential)
	}
	return all
}

// Challenge returns what a browser asks an authenticator with, as JSON can hold it. Its challenge is answered once, by this browser, for
// this purpose, within challengeLifetime. u is zero for a sign-in. It returns ErrNoFactor if a proof is wanted of a user without passkeys.
func (s *Store) Challenge(ctx context.Context, b Browser, purpose PasskeyPurpose, u User) (options any, err error) {
	user := passkeyUser{user: u}
	if u.ID != (pg.ID{}) {
		f, err := s.readFactor(ctx, s.db.Pool, u.ID, "")
		if err != nil && !errors.Is(err, ErrNoFactor) {
			return nil, err
		}
		user.has = f.Passkeys
	}
	rp := b.RelyingParty.rp
	var session *webauthn.SessionData
	switch purpose {
	case PasskeyAdd:
		known := webauthn.Credentials(user.WebAuthnCredentials()).CredentialDescriptors()
		options, session, err = rp.BeginRegistration(user, webauthn.WithExclusions(known))
	case PasskeyProof:
		if len(user.has) == 0 {
			return nil, ErrNoFactor
		}
		options, session, err = rp.BeginLogin(user, webauthn.WithUserVerification(protocol.VerificationRequired))
	default:
		options, session, err = rp.BeginDiscoverableLogin(webauthn.WithUserVerification(protocol.VerificationRequired))
	}
	if err != nil {
		return nil, fmt.Errorf("make challenge: %w", err)
	}
	_, err = pg.Exec(ctx, s.db.Pool, "add challenge", `INSERT INTO passkey_challenges (hash, browser_hash, user_id, purpose, expires_at) VALUES ($1, $2, $3, $4, $5)`,
		pg.Secret(session.Challenge).Hash(), b.Secret.Hash(), u.ID, purpose, s.db.Now().Add(challengeLifetime))
	return options, err
}

// takeChallenge takes the challenge of an answer, so that none is answered twice, whatever becomes of the answer. It returns
// ErrWrongPasskey if this browser was given no such challenge for this purpose and user, or too long ago.
func (s *Store) takeChallenge(ctx context.Context, b Browser, purpose PasskeyPurpose, user pg.ID, challenge string) error {
	taken, err := pg.Exec(ctx, s.db.Pool, "take challenge", `
		DELETE FROM passkey_challenges
		WHERE hash = $1 AND browser_hash = $2 AND purpose = $3 AND user_id IS NOT DISTINCT FROM $4::uuid AND expires_at > $5`,
		pg.Secret(challenge).Hash(), b.Secret.Hash(), purpose, user, s.db.Now())
	if err == nil && taken == 0 {
		err = ErrWrongPasskey
	}
	return err
}

// sessionOf returns what the library compares an answer with. The challenge is one that takeChallenge took.
func sessionOf(u User, challenge string) webauthn.SessionData {
	return webauthn.SessionData{
		Challenge: challenge, UserID: u.ID[:], UserVerification: protocol.VerificationRequired, CredParams: webauthn.CredentialParametersDefault(),
	}
}

// AddPasskey adds a passkey to a user's second factor: the answer to a challenge for PasskeyAdd. If it is the user's first second factor,
// it ends the user's other sessions, completes this one, whose secret is next from then on, and returns recovery codes. It returns
// ErrWrongPasskey, ErrTooManyPasskeys and text.ErrTooLong.
func (s *Store) AddPasskey(ctx context.Context, by audit.Actor, u User, session Session, next pg.Secret, b Browser, name, answer string, jobs notify.Queue) (recovery []string, err error) {
	if text.Length(name) > text.MaxName {
		return nil, text.ErrTooLong
	}
	parsed, err := protocol.ParseCredentialCreationResponseBytes([]byte(answer))
	if err != nil {
		return nil, ErrWrongPasskey
	}
	challenge := parsed.Response.CollectedClientData.Challenge
	if err := s.takeChallenge(ctx, b, PasskeyAdd, u.ID, challenge); err != nil {
		return nil, err
	}
	made, err := b.RelyingParty.rp.CreateCredential(passkeyUser{user: u}, sessionOf(u, challenge), parsed)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrWrongPasskey, err)
	}
	made.Attestation = webauthn.CredentialAttestation{} // nothing is decided by it
	one := passkey{Name: text.Name(name), AddedAt: s.db.Now(), Credential: *made}
	err = s.db.Tx(ctx, func(tx pgx.Tx) error {
		recovery, err = s.addFactor(ctx, tx, u, session.Hash, next, func(f *factor) error {
			switch {
			case slices.ContainsFunc(f.Passkeys, func(has passkey) bool { return has.id() == one.id() }):
				return ErrWrongPasskey
			case len(f.Passkeys) >= maxPasskeys:
				return ErrTooManyPasskeys
			}
			f.Passkeys = append(f.Passkeys, one)
			return nil
		})
		if err != nil {
			return err
		}
		return s.factorChanged(ctx, tx, by, u, status.UserFactorOn, notify.MailFactorOn, jobs)
	})
	return recovery, err
}

// RemovePasskey removes a passkey of a user. It returns ErrNoFactor if the user has none of this id.
func (s *Store) RemovePasskey(ctx context.Context, by audit.Actor, u User, id string, jobs notify.Queue) error {
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		removed := false
		err := s.removeFactor(ctx, tx, u.ID, func(f *factor) {
			before := len(f.Passkeys)
			f.Passkeys = slices.DeleteFunc(f.Passkeys, func(has passkey) bool { return has.id() == id })
			removed = len(f.Passkeys) < before
		})
		if err == nil && !removed {
			err = ErrNoFactor
		}
		if err != nil {
			return err
		}
		return s.factorChanged(ctx, tx, by, u, status.UserFactorOff, notify.MailFactorOff, jobs)
	})
}

// ProvePasskey completes a session by a passkey of its user: the answer to a challenge for PasskeyProof. The session's secret is next from
// then on. It returns ErrWrongPasskey, which it notes as an event.
func (s *Store) ProvePasskey(ctx context.Context, by audit.Actor, u User, session []byte, next pg.Secret, b Browser, answer string) error {
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		err = ErrWrongPasskey
	} else {
		err = s.takeChallenge(ctx, b, PasskeyProof, u.ID, parsed.Response.CollectedClientData.Challenge)
	}
	if err == nil {
		err = s.usePasskey(ctx, by, u, b, parsed, func(tx pgx.Tx) error { return s.complete(ctx, tx, session, next) })
	}
	if errors.Is(err, ErrWrongPasskey) {
		err = errors.Join(err, s.audit.Record(ctx, audit.Event{Kind: status.UserFactorFailed, Actor: by}))
	}
	return err
}

// AuthenticatePasskey returns the user of a passkey: the answer to a challenge for PasskeySignIn. AddSession signs the user in wholly. It
// returns ErrWrongPasskey, with the user if there is one, also if the user is locked or signs in through the platform. by needs no user.
func (s *Store) AuthenticatePasskey(ctx context.Context, by audit.Actor, b Browser, answer string) (User, error) {
	parsed, err := protocol.ParseCredentialRequestResponseBytes([]byte(answer))
	if err != nil {
		return User{}, ErrWrongPasskey
	}
	if err := s.takeChallenge(ctx, b, PasskeySignIn, pg.ID{}, parsed.Response.CollectedClientData.Challenge); err != nil {
		return User{}, err
	}
	var id pg.ID
	if len(parsed.Response.UserHandle) != len(id) {
		return User{}, ErrWrongPasskey
	}
	copy(id[:], parsed.Response.UserHandle)
	u, err := s.User(ctx, id)
	if errors.Is(err, pg.ErrNotFound) {
		return User{}, ErrWrongPasskey
	}
	if err != nil {
		return User{}, err
	}
	if !u.SecondFactor || !u.LockedAt.IsZero() || u.SSO || u.Invited {
		return u, ErrWrongPasskey
	}
	by.Role, by.ID = u.Role, u.ID
	if err := s.usePasskey(ctx, by, u, b, parsed, func(pgx.Tx) error { return nil }); err != nil {
		return u, err
	}
	u.proved = s.db.Now()
	return u, nil
}

// usePasskey verifies an answer, whose challenge was taken, and keeps the passkey's counter. Then it does what the passkey is used for, in
// the same transaction. It returns ErrWrongPasskey. A counter that does not grow is an event: there are two of the passkey (WebAuthn
// section 6.1.1).
func (s *Store) usePasskey(ctx context.Context, by audit.Actor, u User, b Browser, parsed *protocol.ParsedCredentialAssertionData, then func(pgx.Tx) error) error {
	err := s.db.Tx(ctx, func(tx pgx.Tx) error {
		f, err := s.readFactor(ctx, tx, u.ID, ` FOR UPDATE`)
		if errors.Is(err, ErrNoFactor) {
			return ErrWrongPasskey
		}
		if err != nil {
			return err
		}
		used, err := b.RelyingParty.rp.ValidateLogin(passkeyUser{u, f.Passkeys}, sessionOf(u, parsed.Response.CollectedClientData.Challenge), parsed)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrWrongPasskey, err)
		}
		if used.Authenticator.CloneWarning {
			return errCloned
		}
		at := slices.IndexFunc(f.Passkeys, func(has passkey) bool { return bytes.Equal(has.Credential.ID, used.ID) })
		f.Passkeys[at].Credential, f.Passkeys[at].UsedAt = *used, s.db.Now()
		if err := s.writeFactor(ctx, tx, u.ID, f); err != nil {
			return err
		}
		return then(tx)
	})
	if errors.Is(err, errCloned) {
		err = errors.Join(ErrWrongPasskey, s.audit.Record(ctx, audit.Event{Kind: status.UserPasskeyCloned, Actor: by, Note: u.Email}))
	}
	return err
}
