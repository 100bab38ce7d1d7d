// Package account is people's sign-in: users, their passwords and sessions, and the links by which they are invited, choose a new
// password or reconnect. It knows nothing of connections but their ids.
package account

import (
	"context"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
)

// Store keeps users, sessions and links. Its methods are safe for concurrent use.
type Store struct {
	db        *db.DB
	audit     *audit.Log
	passwords *hasher
	platform  []string
}

// New returns the accounts of a database. platform is what the platform calls itself, as its name and host.
func New(d *db.DB, platform ...string) *Store {
	return &Store{db: d, audit: d.Audit, passwords: newHasher(), platform: platform}
}

// DropExpired deletes sessions and challenges that are over, and links that have been over for 30 days.
func (s *Store) DropExpired(ctx context.Context) error {
	now := s.db.Now()
	if _, err := pg.Exec(ctx, s.db.Pool, "drop sessions", `DELETE FROM sessions WHERE expires_at < $1`, now); err != nil {
		return err
	}
	if _, err := pg.Exec(ctx, s.db.Pool, "drop idle sessions", `DELETE FROM sessions WHERE seen_at < $1`, now.Add(-SessionIdle)); err != nil {
		return err
	}
	if _, err := pg.Exec(ctx, s.db.Pool, "drop challenges", `DELETE FROM passkey_challenges WHERE expires_at < $1`, now); err != nil {
		return err
	}
	_, err := pg.Exec(ctx, s.db.Pool, "drop links", `DELETE FROM links WHERE expires_at < $1`, now.Add(-keepLinksFor))
	return err
}
