package account

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// How long a session lasts: without being used, and at most.
const (
	SessionIdle     = 12 * time.Hour
	SessionLifetime = 7 * 24 * time.Hour
)

// maxAgent is how many bytes of a browser's User-Agent are kept.
const maxAgent = 300

// Session is one signed-in browser. Its secret is in the browser's cookie only.
type Session struct {
	Hash          []byte
	UserID        pg.ID
	CreatedAt     time.Time
	SeenAt        time.Time
	Address       string    // the network address it was last used from
	Agent         string    // the browser's User-Agent
	FactorPending bool      // the password was right and the second factor is missing: the session gives access to that page only
	ProvedAt      time.Time // when the person last proved who they are
}

// Name identifies a session in a form. It gives no access.
func (s Session) Name() string { return hex.EncodeToString(s.Hash) }

// SignedIn is a session with its user and their merchant, which is zero for staff.
type SignedIn struct {
	Session  Session
	User     User
	Merchant db.Merchant
}

// pendingFactorLifetime is how long a session waits for its second factor.
const pendingFactorLifetime = 15 * time.Minute

// AddSession signs in a user who has just been authenticated. If the user has a second factor the session waits for it, unless ChangePassword
// or AuthenticatePasskey returned the user. The browser keeps the secret, the row its hash. It returns ErrWrongPassword if the user's access was ended since the
// user was read: by another password, a lock, another role or a second factor.
func (s *Store) AddSession(ctx context.Context, secret pg.Secret, user User, address, agent string) error {
	now := s.db.Now()
	proof := now
	if !user.proved.IsZero() {
		proof = user.proved
	}
	// The update waits for a change of the user that is under way, and finds out what became of it.
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		added, err := pg.Exec(ctx, tx, "add session", `
			WITH seen AS (UPDATE users SET seen_at = $3 WHERE id = $2 AND access_version = $7 AND locked_at IS NULL RETURNING id, second_factor_at)
			INSERT INTO sessions (id_hash, user_id, created_at, seen_at, expires_at, address, agent, half, proved_at)
			SELECT $1, id, $3, $3, $4, $5, $6, second_factor_at IS NOT NULL AND $8, $9 FROM seen`,
			secret.Hash(), user.ID, now, now.Add(SessionLifetime), address, truncate(agent, maxAgent), user.accessVersion, user.proved.IsZero(), proof)
		if err == nil && added == 0 {
			err = ErrWrongPassword
		}
		if err != nil {
			return err
		}
		return s.db.Sign(ctx, tx, keyring.SignedSessions, secret.Hash())
	})
}

// SignedInBy returns the session with this secret. It returns pg.ErrNotFound if there is none, it is over, its user is locked, or the
// MAC of either is not valid.
func (s *Store) SignedInBy(ctx context.Context, secret pg.Secret) (SignedIn, error) {
	now := s.db.Now()
	return pg.One(ctx, s.db.Pool, "read session", func(row pgx.CollectableRow) (SignedIn, error) {
		var in SignedIn
		var session, user signature
		err := row.Scan(append([]any{
			&in.Session.Hash, &in.Session.UserID, &in.Session.CreatedAt, &in.Session.SeenAt, &in.Session.Address, &in.Session.Agent,
			&in.Session.FactorPending, &in.Session.ProvedAt,
			&in.Merchant.ID, &in.Merchant.ExternalID, &in.Merchant.Name, &in.Merchant.Locale, &in.Merchant.CreatedAt,
		}, slices.Concat(userTargets(&in.User), user.targets(), session.targets())...)...)
		if err == nil {
			err = s.authenticate(keyring.SignedUsers, user)
		}
		if err == nil {
			err = s.authenticate(keyring.SignedSessions, session)
		}
		return in, err
	}, `
		SELECT s.id_hash, s.user_id, s.created_at, s.seen_at, s.address, s.agent, s.half, s.proved_at, m.id, coalesce(m.external_id, ''), coalesce(m.name, ''), coalesce(m.locale, ''), m.created_at, `+userColumns+`, `+signedUser+`, `+keyring.SignedSessions.Text+`, s.mac
		FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN merchants m ON m.id = u.merchant_id
		WHERE s.id_hash = $1 AND s.expires_at > $2 AND s.seen_at > $3 AND u.locked_at IS NULL AND (s.created_at > $4 OR NOT s.half)`,
		secret.Hash(), now, now.Add(-SessionIdle), now.Add(-pendingFactorLifetime))
}

// TouchSession notes that a session was used, from where and by which browser. Once a minute is enough.
func (s *Store) TouchSession(ctx context.Context, hash []byte, address, agent string) error {
	_, err := pg.Exec(ctx, s.db.Pool, "touch session", `
		WITH touched AS (UPDATE sessions SET seen_at = $2, address = $3, agent = $4 WHERE id_hash = $1 RETURNING user_id)
		UPDATE users SET seen_at = $2 FROM touched WHERE id = touched.user_id`,
		hash, s.db.Now(), address, truncate(agent, maxAgent))
	return err
}

// Sessions lists a user's open sessions, the last used first.
func (s *Store) Sessions(ctx context.Context, user pg.ID) ([]Session, error) {
	now := s.db.Now()
	return pg.Collect(ctx, s.db.Pool, "read sessions", pgx.RowToStructByPos[Session], `
		SELECT id_hash, user_id, created_at, seen_at, address, agent, half, proved_at FROM sessions
		WHERE user_id = $1 AND expires_at > $2 AND seen_at > $3 ORDER BY seen_at DESC`, user, now, now.Add(-SessionIdle))
}

// EndSession ends one session of a user. Ending one that is over is no error.
func (s *Store) EndSession(ctx context.Context, user pg.ID, hash []byte) error {
	_, err := pg.Exec(ctx, s.db.Pool, "end session", `DELETE FROM sessions WHERE id_hash = $2 AND user_id = $1`, user, hash)
	return err
}

// EndSessions ends all sessions of a user but the one whose hash is keep. It returns pg.ErrNotFound if there is no such user.
func (s *Store) EndSessions(ctx context.Context, by audit.Actor, user pg.ID, keep []byte) error {
	return s.db.Tx(ctx, func(tx pgx.Tx) error {
		var email string
		var merchant pg.ID
		if err := tx.QueryRow(ctx, `SELECT email, merchant_id FROM users WHERE id = $1`, user).Scan(&email, &merchant); err != nil {
			return pg.NotFound(err)
		}
		if err := endSessions(ctx, tx, user, keep); err != nil {
			return err
		}
		return s.audit.Add(ctx, tx, audit.Event{Kind: status.UserSessionsEnded, Actor: by, MerchantID: merchant, Note: email})
	})
}

func endSessions(ctx context.Context, tx pgx.Tx, user pg.ID, keep []byte) error {
	_, err := pg.Exec(ctx, tx, "end sessions", `DELETE FROM sessions WHERE user_id = $1 AND id_hash IS DISTINCT FROM $2`, user, keep)
	return err
}

// truncate cuts a text to at most n bytes of valid UTF-8 and replaces control characters by spaces.
func truncate(text string, n int) string {
	clean := make([]rune, 0, n)
	size := 0
	for _, r := range text {
		if r < ' ' || r == 0x7f {
			r = ' '
		}
		if size += len(string(r)); size > n {
			break
		}
		clean = append(clean, r)
	}
	return string(clean)
}
