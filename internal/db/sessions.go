package db

import (
	"context"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// How long somebody stays signed in: without doing anything, and at most.
const (
	SessionIdle     = 12 * time.Hour
	SessionLifetime = 7 * 24 * time.Hour
)

// Session is one signed-in browser. Its secret is in the browser's cookie only.
type Session struct {
	Hash      []byte
	UserID    pg.ID
	CreatedAt time.Time
	SeenAt    time.Time
	Address   string
	Agent     string
}

// Name tells sessions apart without being of use to anybody.
func (s Session) Name() string { return hex.EncodeToString(s.Hash) }

// SignedIn is a session with whose it is; Merchant is zero for staff.
type SignedIn struct {
	Session  Session
	User     User
	Merchant Merchant
}

// AddSession signs a user in: the browser gets the secret, the row its hash.
func (d *DB) AddSession(ctx context.Context, secret pg.Secret, user pg.ID, address, agent string) error {
	now := d.Now()
	_, err := d.Pool.Exec(ctx, `
		WITH seen AS (UPDATE users SET seen_at = $3 WHERE id = $2)
		INSERT INTO sessions (id_hash, user_id, created_at, seen_at, expires_at, address, agent) VALUES ($1, $2, $3, $3, $4, $5, $6)`,
		secret.Hash(), user, now, now.Add(SessionLifetime), address, shortened(agent, 300))
	if err != nil {
		return fmt.Errorf("add session: %w", err)
	}
	return nil
}

// SignedInBy returns whose session has this secret. ErrNotFound when there is none, it was ended or is over, or its user is
// locked.
func (d *DB) SignedInBy(ctx context.Context, secret pg.Secret) (SignedIn, error) {
	var in SignedIn
	now := d.Now()
	err := d.Pool.QueryRow(ctx, `
		SELECT s.id_hash, s.user_id, s.created_at, s.seen_at, s.address, s.agent, m.id, coalesce(m.external_id, ''), coalesce(m.name, ''), coalesce(m.locale, ''), m.created_at, `+userColumns+`
		FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN merchants m ON m.id = u.merchant_id
		WHERE s.id_hash = $1 AND s.expires_at > $2 AND s.seen_at > $3 AND u.locked_at IS NULL`,
		secret.Hash(), now, now.Add(-SessionIdle)).Scan(append([]any{
		&in.Session.Hash, &in.Session.UserID, &in.Session.CreatedAt, &in.Session.SeenAt, &in.Session.Address, &in.Session.Agent,
		&in.Merchant.ID, &in.Merchant.ExternalID, &in.Merchant.Name, &in.Merchant.Locale, &in.Merchant.CreatedAt,
	}, userTargets(&in.User)...)...)
	if err != nil {
		return in, fmt.Errorf("read session: %w", pg.NotFound(err))
	}
	return in, nil
}

// TouchSession notes that a session was used, from where and by what; at most once a minute is enough.
func (d *DB) TouchSession(ctx context.Context, hash []byte, address, agent string) error {
	_, err := d.Pool.Exec(ctx, `
		WITH touched AS (UPDATE sessions SET seen_at = $2, address = $3, agent = $4 WHERE id_hash = $1 RETURNING user_id)
		UPDATE users SET seen_at = $2 FROM touched WHERE id = touched.user_id`,
		hash, d.Now(), address, shortened(agent, 300))
	if err != nil {
		return fmt.Errorf("touch session: %w", err)
	}
	return nil
}

// Sessions lists a user's open sessions, the last used first.
func (d *DB) Sessions(ctx context.Context, user pg.ID) ([]Session, error) {
	now := d.Now()
	rows, err := d.Pool.Query(ctx, `
		SELECT id_hash, user_id, created_at, seen_at, address, agent FROM sessions
		WHERE user_id = $1 AND expires_at > $2 AND seen_at > $3 ORDER BY seen_at DESC`, user, now, now.Add(-SessionIdle))
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Session, error) {
		var s Session
		err := row.Scan(&s.Hash, &s.UserID, &s.CreatedAt, &s.SeenAt, &s.Address, &s.Agent)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read sessions: %w", err)
	}
	return all, nil
}

// EndSession signs one browser of a user out. Ending what is over already is no error.
func (d *DB) EndSession(ctx context.Context, user pg.ID, hash []byte) error {
	if _, err := d.Pool.Exec(ctx, `DELETE FROM sessions WHERE id_hash = $2 AND user_id = $1`, user, hash); err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	return nil
}

// shortened cuts text of a browser's to at most n bytes of valid UTF-8 without control characters.
func shortened(text string, n int) string {
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
