package db

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/schedule"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// sealedGrant is the part of a sealed grant after the access token: see sealGrant. Durations are in nanoseconds.
type sealedGrant struct {
	Lifetime        time.Duration      `json:"lifetime"`
	Refresh         string             `json:"refresh,omitempty"`
	RefreshLifetime time.Duration      `json:"refresh_lifetime,omitempty"`
	Scope           []string           `json:"scope,omitempty"`
	Inputs          map[string]string  `json:"inputs,omitempty"`
	Account         connectors.Account `json:"account"`
	Beside          map[string]string  `json:"beside,omitempty"`
	Ends            time.Time          `json:"ends,omitzero"`
}

// sealGrant seals the access token, its type and its scope, each after its length, and the rest as JSON, so that a token is read
// without decoding JSON.
func sealGrant(k *seal.Keyset, g connectors.Grant, at seal.Place) ([]byte, error) {
	rest, err := json.Marshal(sealedGrant{g.Lifetime, g.Token.Refresh, g.RefreshLifetime, g.Scope, g.Inputs, g.Account, g.Beside, g.Ends})
	if err != nil {
		return nil, fmt.Errorf("encode grant: %w", err)
	}
	plain := make([]byte, 0, len(g.Access)+len(rest)+64)
	for _, part := range []string{g.Access, g.Type, strings.Join(g.Scope, " ")} {
		plain = binary.AppendUvarint(plain, uint64(len(part)))
		plain = append(plain, part...)
	}
	return k.Seal(append(plain, rest...), at)
}

// OpenGrant opens what SealGrant sealed for the same place. It returns an error of Unseal, wrapped, for anything else.
func (d *DB) OpenGrant(sealed []byte, at seal.Place) (connectors.Grant, error) {
	parts, rest, err := d.openParts(sealed, at)
	if err != nil {
		return connectors.Grant{}, err
	}
	var s sealedGrant
	if err := json.Unmarshal(rest, &s); err != nil {
		return connectors.Grant{}, fmt.Errorf("decode grant: %w", seal.ErrSealed)
	}
	return connectors.Grant{
		Token:  connectors.Token{Access: parts[0], Type: parts[1], Lifetime: s.Lifetime, Refresh: s.Refresh, RefreshLifetime: s.RefreshLifetime, Scope: s.Scope},
		Inputs: s.Inputs, Account: s.Account, Beside: s.Beside, Ends: s.Ends,
	}, nil
}

// openToken opens a sealed grant and returns the access token, its type and its scope, and of a key what was typed with it.
func (d *DB) openToken(sealed []byte, at seal.Place) (t connectors.Token, typed map[string]string, err error) {
	parts, rest, err := d.openParts(sealed, at)
	t = connectors.Token{Access: parts[0], Type: parts[1], Scope: strings.Fields(parts[2])}
	if err != nil || t.Type != connectors.KeyType {
		return t, nil, err
	}
	var s struct {
		Inputs map[string]string `json:"inputs"`
	}
	if json.Unmarshal(rest, &s) != nil {
		return connectors.Token{}, nil, fmt.Errorf("decode grant: %w", seal.ErrSealed)
	}
	return t, s.Inputs, nil
}

func (d *DB) openParts(sealed []byte, at seal.Place) (parts [3]string, rest []byte, err error) {
	rest, err = d.Unseal(sealed, at)
	if err != nil {
		return parts, nil, err
	}
	for i := range parts {
		length, n := binary.Uvarint(rest)
		if n <= 0 || length > uint64(len(rest)-n) {
			return parts, nil, fmt.Errorf("decode grant: %w", seal.ErrSealed)
		}
		end := n + int(length)
		parts[i], rest = string(rest[n:end]), rest[end:]
	}
	return parts, rest, nil
}

// SealGrant seals a grant for the place that GrantPlace or LateGrantPlace names.
func (d *DB) SealGrant(g connectors.Grant, at seal.Place) ([]byte, error) {
	return sealGrant(d.Keyset, g, at)
}

// GrantPlace is where a connection's grant of one generation is stored.
func GrantPlace(connection, merchant pg.ID, generation int64) seal.Place {
	return seal.Place{Table: "grants", Column: "sealed", Row: connection, Generation: generation, Merchant: merchant}
}

// LateGrantPlace is where a good answer is stored that came late, when the grant already had this generation.
func LateGrantPlace(connection, merchant pg.ID, generation int64) seal.Place {
	return seal.Place{Table: "grants", Column: "late_grant", Row: connection, Generation: generation, Merchant: merchant}
}

// keepLate keeps the grant of a flow that ended without connecting it, where its merchant has the account connected: some providers end
// the earlier grant as they give another, and then this one is tried before the connection's is taken for rejected. A connection whose
// grant was rejected meanwhile is due at once.
func (d *DB) keepLate(ctx context.Context, tx pgx.Tx, f Flow, g connectors.Grant) error {
	type target struct {
		Connection pg.ID
		Generation int64
	}
	found, err := pg.Collect(ctx, tx, "read what a flow concerns", pgx.RowToStructByPos[target], `
		SELECT c.id, g.generation FROM connections c JOIN grants g ON g.connection_id = c.id
		WHERE c.merchant_id = $1 AND c.provider = $2 AND c.environment = $3 AND c.account_id = $4 AND c.disconnected_at IS NULL AND g.sealed IS NOT NULL
		FOR UPDATE`, f.MerchantID, f.Provider, f.Environment, g.Account.ID)
	for _, t := range found {
		var sealed []byte
		if sealed, err = d.SealGrant(g, LateGrantPlace(t.Connection, f.MerchantID, t.Generation)); err != nil {
			break
		}
		if _, err = pg.Exec(ctx, tx, "keep a grant", `
			UPDATE grants g SET late_grant = $2, late_generation = $3, refresh_at = CASE WHEN c.problem = ANY ($4) THEN $5 ELSE g.refresh_at END
			FROM connections c WHERE c.id = g.connection_id AND g.connection_id = $1`, t.Connection, sealed, t.Generation,
			[]status.Problem{status.ProblemRejected, status.ProblemInterrupted}, d.Now()); err != nil {
			break
		}
	}
	return err
}

// priorGrant has the values of a connection's grant before it is replaced; it is zero if there was none.
type priorGrant struct {
	generation, version int64
	usedAt              time.Time
}

// lockPriorGrant reads and locks a connection's grant.
func lockPriorGrant(ctx context.Context, tx pgx.Tx, connection pg.ID) (priorGrant, error) {
	prior, err := pg.One(ctx, tx, "read grant", func(row pgx.CollectableRow) (p priorGrant, err error) {
		return p, row.Scan(&p.generation, &p.version, &p.usedAt)
	}, `SELECT generation, connection_version, used_at FROM grants WHERE connection_id = $1 FOR UPDATE`, connection)
	if errors.Is(err, pg.ErrNotFound) {
		err = nil
	}
	return prior, err
}

// queueGrant adds to a batch the grant of a connection that was just made or renewed. It replaces an older grant with its failures,
// lease and late grant; answers to refreshes of the older version are not saved. obtained is when the provider made the answer, by
// our clock; info is the provider's.
func (d *DB) queueGrant(b *pgx.Batch, c Connection, g connectors.Grant, was priorGrant, obtained time.Time, info connectors.Info) error {
	if info.GrantLife > 0 {
		g.Ends = obtained.Add(info.GrantLife)
	}
	sealed, err := sealGrant(d.Keyset, g, GrantPlace(c.ID, c.MerchantID, was.generation+1))
	if err != nil {
		return err
	}
	var expires, refreshExpires time.Time
	if g.Lifetime > 0 {
		expires = obtained.Add(g.Lifetime)
	}
	switch {
	case !info.Renewable(g):
		refreshExpires = expires
	case g.RefreshLifetime > 0 && !info.Typed(g): // typed credentials give a new grant at its end
		refreshExpires = obtained.Add(g.RefreshLifetime)
	}
	fixed := !info.Renewable(g) && !expires.IsZero()
	if !g.Ends.IsZero() && (refreshExpires.IsZero() || g.Ends.Before(refreshExpires)) {
		refreshExpires, fixed = g.Ends, true
	}
	b.Queue(`
		INSERT INTO grants (connection_id, provider, environment, sealed, generation, connection_version, lifetime_seconds, expires_at, refresh_expires_at, refresh_expiry_fixed, refresh_at,
			last_outcome, refreshed_at, renewable)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $12, $10, 'ok', $11, $13)
		ON CONFLICT (connection_id) DO UPDATE SET
			provider = excluded.provider, environment = excluded.environment, sealed = excluded.sealed, late_grant = NULL, late_generation = 0,
			generation = excluded.generation, connection_version = excluded.connection_version, attempts = grants.attempts + 1, lease_id = NULL, leased_until = NULL, refresh_expiry_fixed = excluded.refresh_expiry_fixed,
			lifetime_seconds = excluded.lifetime_seconds, expires_at = excluded.expires_at, refresh_expires_at = excluded.refresh_expires_at,
			refresh_at = excluded.refresh_at, failures = 0, last_outcome = 'ok', last_code = '', refreshed_at = excluded.refreshed_at,
			renewable = excluded.renewable`,
		c.ID, c.Provider, c.Environment, sealed, was.generation+1, was.version+1, int64(g.Lifetime/time.Second), expires, refreshExpires,
		schedule.Due(info, c.ID, g, obtained, obtained.Sub(was.usedAt) < schedule.InUse), obtained,
		fixed, info.Renewable(g))
	return nil
}

// dropGrant deletes a grant's secrets. The row keeps its figures, and its version rises, so that an answer under way is not saved.
func (d *DB) dropGrant(ctx context.Context, tx pgx.Tx, connection pg.ID) error {
	_, err := pg.Exec(ctx, tx, "drop grant", `
		UPDATE grants SET sealed = NULL, late_grant = NULL, connection_version = connection_version + 1, attempts = attempts + 1, lease_id = NULL, leased_until = NULL,
			expires_at = NULL, refresh_expires_at = NULL, refresh_at = NULL, failures = 0
		WHERE connection_id = $1`, connection)
	return err
}

// GrantState is a connection's access, with the reasons for which there may be none.
type GrantState struct {
	Connection   pg.ID
	Merchant     pg.ID
	Provider     string
	Environment  string
	Problem      status.Problem
	Disconnected bool
	Token        connectors.Token  // without what is not handed out
	Typed        map[string]string // what was typed, of a token that is a key
	Sealed       bool              // the grant is damaged: no key opens it
	Unrenewable  bool              // nothing is held that gives new access: the token is valid until its end
	ExpiresAt    time.Time
	Lifetime     time.Duration
	RefreshedAt  time.Time
	RefreshAt    time.Time
	LeasedUntil  time.Time // zero if no refresh is under way
	UsedAt       time.Time
	Attempt      int64
	LastOutcome  status.Outcome
	LastCode     string
}

// ReadGrant returns a connection's access. It returns ErrNotFound if there is no such connection, and seal.ErrUnknownKey if its grant is
// sealed by a key that the keyset lacks.
func (d *DB) ReadGrant(ctx context.Context, connection pg.ID) (GrantState, error) {
	var sealed []byte
	var generation, lifetime int64
	r, err := pg.One(ctx, d.Pool, "read grant", func(row pgx.CollectableRow) (r GrantState, err error) {
		return r, row.Scan(&r.Connection, &r.Merchant, &r.Provider, &r.Environment, &r.Problem, &r.Disconnected, &sealed, &generation, &r.ExpiresAt,
			&lifetime, &r.RefreshedAt, &r.RefreshAt, &r.LeasedUntil, &r.UsedAt, &r.Attempt, &r.LastOutcome, &r.LastCode, &r.Unrenewable)
	}, `
		SELECT c.id, c.merchant_id, c.provider, c.environment, c.problem, c.disconnected_at IS NOT NULL, g.sealed, g.generation, g.expires_at,
			g.lifetime_seconds, g.refreshed_at, g.refresh_at, g.leased_until, g.used_at, g.attempts, g.last_outcome, g.last_code,
			NOT g.renewable
		FROM connections c JOIN grants g ON g.connection_id = c.id WHERE c.id = $1`, connection)
	if err != nil {
		return r, err
	}
	r.Lifetime = time.Duration(lifetime) * time.Second
	if end := d.Now().Add(r.Lifetime); r.Unrenewable && r.ExpiresAt.After(end) { // there is no other token: it ends then at the latest
		r.ExpiresAt = end
	}
	if sealed != nil {
		if r.Token, r.Typed, err = d.openToken(sealed, GrantPlace(connection, r.Merchant, generation)); errors.Is(err, seal.ErrUnknownKey) {
			return r, err
		}
		r.Sealed = err != nil
		r.Token.Lifetime = r.Lifetime
	}
	return r, nil
}

// AddConnection adds a connection without a flow, for samples and tests.
func (d *DB) AddConnection(ctx context.Context, merchant pg.ID, provider, environment string, g connectors.Grant, obtained time.Time, info connectors.Info) (pg.ID, error) {
	c := Connection{ID: pg.NewID(), MerchantID: merchant, Provider: provider, Environment: environment, Account: g.Account, ConnectedAt: d.Now(), Scopes: GrantedScopes{Granted: g.Scope, Missing: g.Missing}}
	b := &pgx.Batch{}
	if err := queueConnection(b, c); err != nil {
		return c.ID, err
	}
	if err := d.queueGrant(b, c, g, priorGrant{}, obtained, info); err != nil {
		return c.ID, err
	}
	d.Audit.Queue(b, audit.Event{Kind: status.ConnectionAdded, MerchantID: merchant, ConnectionID: c.ID, Provider: provider})
	if err := d.Pool.SendBatch(ctx, b).Close(); err != nil {
		return c.ID, fmt.Errorf("add connection: %w", err)
	}
	return c.ID, nil
}
