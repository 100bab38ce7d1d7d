package db

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// TokenRead is a connection's token and the API key that asked for it.
type TokenRead struct {
	Key         pg.ID
	KeyMerchant pg.ID // whose key it is; zero: of all merchants
	Allowed     bool  // the key has the scope tokens:read
	Provider    string
	Environment string
	Token       connectors.Token
	Typed       map[string]string // what was typed, of a token that is a key
	ExpiresAt   time.Time         // zero when unknown
	Lifetime    time.Duration
	UsedAt      time.Time
	AccountID   string
	Values      json.RawMessage // of the account, as connectors.Values are stored
	Input       json.RawMessage // of the account: what was typed that is no secret
}

// ReadToken reads a connection's token and the API key by which it is asked for, in one round trip that concurrent calls share.
// ok is false if the token cannot be handed out, for a reason that ReadGrant returns. It returns ErrNoAPIKey if there is no such
// key, seal.ErrUnknownKey as Authenticate does, and the key with ErrNotFound if there is no such connection or the key is not for its
// merchant.
func (d *DB) ReadToken(ctx context.Context, key pg.Secret, connection pg.ID) (h TokenRead, ok bool, err error) {
	r, err := d.tokenReads.Read(ctx, keyRequest{keyHash: key.Hash(), connection: connection})
	if err != nil {
		return h, false, err
	}
	if r.key == (pg.ID{}) {
		return h, false, ErrNoAPIKey
	}
	switch err := d.Authenticate(keyring.SignedKeys, signedKey(r.key, r.keyMerchant, key.Hash(), r.scopes), r.mac); {
	case errors.Is(err, seal.ErrForged):
		return h, false, ErrNoAPIKey
	case err != nil:
		return h, false, err
	}
	h.Key, h.KeyMerchant, h.Allowed = r.key, r.keyMerchant, strings.Contains(" "+r.scopes+" ", " "+ScopeTokens+" ")
	if r.merchant == (pg.ID{}) || r.keyMerchant != (pg.ID{}) && r.keyMerchant != r.merchant {
		return h, false, pg.ErrNotFound
	}
	h.Provider, h.Environment, h.ExpiresAt, h.UsedAt = r.provider, r.environment, r.expiresAt, r.usedAt
	h.AccountID, h.Values, h.Input = r.accountID, r.values, r.input
	h.Lifetime = time.Duration(r.lifetime) * time.Second
	if r.sealed == nil || r.outcome != status.OK {
		return h, false, nil
	}
	h.Token, h.Typed, err = d.openToken(r.sealed, GrantPlace(connection, r.merchant, r.generation))
	h.Token.Lifetime = h.Lifetime
	return h, err == nil, nil
}

// tokenRow is what Postgres has for a request: key is zero if there is no such key, merchant if there is no such connection.
type tokenRow struct {
	key, keyMerchant, merchant       pg.ID
	scopes                           string
	mac, sealed                      []byte
	generation, lifetime             int64
	provider, environment, accountID string
	expiresAt, usedAt                time.Time
	outcome                          status.Outcome
	values, input                    []byte
}

// readTokenRows reads the rows of many requests: of each a key by its hash, a grant and a connection by their id.
func (d *DB) readTokenRows(ctx context.Context, requests []keyRequest) ([]tokenRow, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	hashes, connections := make([][]byte, len(requests)), make([]pg.ID, len(requests))
	for i, r := range requests {
		hashes[i], connections[i] = r.keyHash, r.connection
	}
	out := make([]tokenRow, len(requests))
	// As (SELECT $1) an array is unknown to the planner, see selectValidKeys.
	var n int
	var r tokenRow
	err := pg.Each(ctx, d.Pool, "read tokens", []any{
		&n, &r.key, &r.scopes, &r.mac, &r.keyMerchant, &r.merchant, &r.sealed, &r.generation, &r.provider, &r.environment, &r.expiresAt, &r.lifetime, &r.usedAt, &r.outcome,
		&r.accountID, &r.values, &r.input,
	}, func() error {
		out[n-1] = r
		return nil
	}, `
		SELECT w.n, k.id, array_to_string(k.scopes, ' '), k.mac, k.merchant_id, c.merchant_id,
			g.sealed, coalesce(g.generation, 0), coalesce(g.provider, ''), coalesce(g.environment, ''), g.expires_at, coalesce(g.lifetime_seconds, 0), g.used_at, coalesce(g.last_outcome, ''),
			coalesce(c.account_id, ''), c.account_values::text, c.account_input::text
		FROM unnest((SELECT $1::bytea[]), (SELECT $2::uuid[])) WITH ORDINALITY AS w (hash, connection, n)
		JOIN api_keys k ON k.hash = w.hash AND k.revoked_at IS NULL
		LEFT JOIN (grants g JOIN connections c ON c.id = g.connection_id) ON g.connection_id = w.connection`, hashes, connections)
	return out, err
}
