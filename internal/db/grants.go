package db

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/connectors"
)

// sealedGrant is what stands sealed in grants and, while a choice is awaited, in flows. Durations are nanoseconds.
type sealedGrant struct {
	Access          string             `json:"access"`
	Type            string             `json:"type,omitempty"`
	Lifetime        time.Duration      `json:"lifetime"`
	Refresh         string             `json:"refresh,omitempty"`
	RefreshLifetime time.Duration      `json:"refresh_lifetime,omitempty"`
	Scope           []string           `json:"scope,omitempty"`
	Inputs          map[string]string  `json:"inputs,omitempty"`
	Account         connectors.Account `json:"account"`
}

func (k *Keyset) sealGrant(g connectors.Grant, at place) ([]byte, error) {
	plain, err := json.Marshal(sealedGrant{
		g.Access, g.Type, g.Lifetime, g.Token.Refresh, g.RefreshLifetime, g.Scope, g.Inputs, g.Account,
	})
	if err != nil {
		return nil, fmt.Errorf("encode grant: %w", err)
	}
	return k.seal(plain, at)
}

func (k *Keyset) openGrant(sealed []byte, at place) (connectors.Grant, error) {
	plain, err := k.open(sealed, at)
	if err != nil {
		return connectors.Grant{}, err
	}
	var s sealedGrant
	if err := json.Unmarshal(plain, &s); err != nil {
		return connectors.Grant{}, fmt.Errorf("decode grant: %w", ErrSealed)
	}
	return connectors.Grant{
		Token:  connectors.Token{Access: s.Access, Type: s.Type, Lifetime: s.Lifetime, Refresh: s.Refresh, RefreshLifetime: s.RefreshLifetime, Scope: s.Scope},
		Inputs: s.Inputs, Account: s.Account,
	}, nil
}

func grantPlace(connection ID, generation int64) place {
	return place{table: "grants", column: "sealed", row: connection, generation: generation}
}

// A Schedule says when a grant is next renewed, given its connection, when its present token was obtained, the
// token's lifetime and the refresh token's (0: unknown), and whether somebody has used it in the last day. The zero time means never. refresh
// has the one there is.
type Schedule func(connection ID, obtained time.Time, lifetime, refreshLifetime time.Duration, used bool) time.Time

// putGrant writes the grant of a connection that was just made or renewed by its merchant: whatever was known of an
// older grant, its failures and its lease is over, and answers of its epoch are no longer wanted. obtained is when the
// provider's answer was made, by our clock.
func (d *DB) putGrant(ctx context.Context, tx pgx.Tx, c Connection, g connectors.Grant, obtained time.Time, schedule Schedule) error {
	var generation, epoch int64
	err := tx.QueryRow(ctx, `SELECT generation, epoch FROM grants WHERE connection_id = $1 FOR UPDATE`, c.ID).Scan(&generation, &epoch)
	if err != nil && err != pgx.ErrNoRows {
		return fmt.Errorf("read grant: %w", err)
	}
	generation, epoch = generation+1, epoch+1
	sealed, err := d.keyset.sealGrant(g, grantPlace(c.ID, generation))
	if err != nil {
		return err
	}
	var expires, refreshExpires time.Time
	if g.Lifetime > 0 {
		expires = obtained.Add(g.Lifetime)
	}
	if g.RefreshLifetime > 0 {
		refreshExpires = obtained.Add(g.RefreshLifetime)
	}
	_, err = tx.Exec(ctx, `
		INSERT INTO grants (connection_id, provider, environment, sealed, generation, epoch, lifetime_seconds, expires_at, refresh_expires_at, refresh_at, last_class, refreshed_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'ok', $11)
		ON CONFLICT (connection_id) DO UPDATE SET
			provider = excluded.provider, environment = excluded.environment, sealed = excluded.sealed, spare = NULL, spare_generation = 0,
			generation = excluded.generation, epoch = excluded.epoch, attempt = grants.attempt + 1, lease_id = NULL, leased_until = NULL, call_sent = false,
			lifetime_seconds = excluded.lifetime_seconds, expires_at = excluded.expires_at, refresh_expires_at = excluded.refresh_expires_at,
			refresh_at = excluded.refresh_at, failures = 0, last_class = 'ok', last_code = '', refreshed_at = excluded.refreshed_at`,
		c.ID, c.Provider, c.Environment, sealed, generation, epoch, int64(g.Lifetime/time.Second), nullTime(expires), nullTime(refreshExpires),
		nullTime(schedule(c.ID, obtained, g.Lifetime, g.RefreshLifetime, false)), obtained)
	if err != nil {
		return fmt.Errorf("put grant: %w", err)
	}
	return nil
}

// dropGrant deletes what gave access; the row stays for its figures and its epoch rises, so that an answer still on
// its way is not kept.
func (d *DB) dropGrant(ctx context.Context, tx pgx.Tx, connection ID) error {
	_, err := tx.Exec(ctx, `
		UPDATE grants SET sealed = NULL, spare = NULL, epoch = epoch + 1, attempt = attempt + 1, lease_id = NULL, leased_until = NULL, call_sent = false,
			expires_at = NULL, refresh_expires_at = NULL, refresh_at = NULL, failures = 0
		WHERE connection_id = $1`, connection)
	if err != nil {
		return fmt.Errorf("drop grant: %w", err)
	}
	return nil
}
