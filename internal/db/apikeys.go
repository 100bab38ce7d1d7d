package db

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// APIKey is the row of a key by which one of the platform's programs uses the JSON API. The secret is known only to that program.
type APIKey struct {
	ID         pg.ID
	Prefix     string // the first letters of the secret, to tell keys apart
	Name       string
	MerchantID pg.ID // zero: all merchants
	Scopes     []string
	CreatedBy  pg.ID // zero: on the command line
	CreatedAt  time.Time
	LastUsedAt time.Time
	RevokedAt  time.Time
}

// The scopes: what a key may do.
const (
	ScopeConnections = "connections:read"    // read connections and merchants
	ScopeTokens      = "tokens:read"         // be handed tokens
	ScopeRefresh     = "connections:refresh" // refresh
	ScopeDisconnect  = "connections:write"   // disconnect
	ScopeLinks       = "links:write"         // make connect links
	ScopeMerchants   = "merchants:write"     // add and erase merchants
	ScopeWebhooks    = "webhooks:write"      // have webhooks sent
)

// Scopes lists every scope there is.
func Scopes() []string {
	return []string{ScopeConnections, ScopeTokens, ScopeRefresh, ScopeDisconnect, ScopeLinks, ScopeMerchants, ScopeWebhooks}
}

// Errors of API keys.
var (
	ErrNoAPIKey     = errors.New("no such API key")
	ErrKeyNameTaken = errors.New("another API key of that name still works")
	ErrNoScopes     = errors.New("an API key needs at least one of the scopes " + strings.Join(Scopes(), ", "))
)

const keyPrefix = "pb_"

// AddAPIKey makes a key and returns it with its secret, which is shown once and stored only as a hash. An admin's key has a name that
// no other valid key has, so that a second click makes no second key. On the command line a name may be used again, to make the next
// key before the old one is revoked. It returns ErrNoName, text.ErrTooLong, ErrNoScopes, ErrKeyNameTaken if an admin's name is in use, and ErrNotFound if there is no
// such merchant.
func (d *DB) AddAPIKey(ctx context.Context, by audit.Actor, k APIKey) (APIKey, pg.Secret, error) {
	if text.Length(k.Name) > text.MaxName {
		return k, "", text.ErrTooLong
	}
	if k.Name = text.Name(k.Name); k.Name == "" {
		return k, "", ErrNoName
	}
	if len(k.Scopes) == 0 || slices.ContainsFunc(k.Scopes, func(s string) bool { return !slices.Contains(Scopes(), s) }) {
		return k, "", ErrNoScopes
	}
	secret := pg.Secret(keyPrefix + string(pg.NewSecret()))
	k.ID, k.CreatedAt, k.Prefix = pg.NewID(), d.Now(), string(secret[:len(keyPrefix)+6])
	if by.Role == audit.RoleAdmin {
		k.CreatedBy = by.ID
	}
	err := d.Tx(ctx, func(tx pgx.Tx) error {
		if by.Role == audit.RoleAdmin {
			if _, err := pg.Exec(ctx, tx, "lock an API key's name", `SELECT pg_advisory_xact_lock(hashtextextended('key ' || name_fold($1), 0))`, k.Name); err != nil {
				return err
			}
			taken, err := pg.Exec(ctx, tx, "look for an API key", `SELECT FROM api_keys WHERE name_fold(name) = name_fold($1) AND revoked_at IS NULL LIMIT 1`, k.Name)
			if err == nil && taken > 0 {
				err = ErrKeyNameTaken
			}
			if err != nil {
				return err
			}
		}
		_, err := pg.Exec(ctx, tx, "add API key", `INSERT INTO api_keys (id, prefix, hash, name, merchant_id, scopes, created_by, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			k.ID, k.Prefix, secret.Hash(), k.Name, k.MerchantID, k.Scopes, k.CreatedBy, k.CreatedAt)
		if pg.Violates(err, "api_keys_merchant_id_fkey") {
			return pg.ErrNotFound
		}
		if err != nil {
			return err
		}
		if err := d.Sign(ctx, tx, keyring.SignedKeys, k.ID); err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.KeyAdded, MerchantID: k.MerchantID, Note: k.Name + " " + k.Prefix + ": " + strings.Join(k.Scopes, ", "), Actor: by})
	})
	return k, secret, err
}

// RevokeAPIKey ends a key at once and returns its name. It returns ErrNotFound if there is no such key that is valid.
func (d *DB) RevokeAPIKey(ctx context.Context, by audit.Actor, id pg.ID) (name string, err error) {
	err = d.Tx(ctx, func(tx pgx.Tx) error {
		var prefix string
		var merchant pg.ID
		err := tx.QueryRow(ctx, `UPDATE api_keys SET revoked_at = $2, mac = NULL WHERE id = $1 AND revoked_at IS NULL RETURNING name, prefix, merchant_id`, id, d.Now()).
			Scan(&name, &prefix, &merchant)
		if err != nil {
			return pg.NotFound(err)
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.KeyRevoked, MerchantID: merchant, Note: name + " " + prefix, Actor: by})
	})
	return name, err
}

const keyColumns = `k.id, k.prefix, k.name, k.merchant_id, k.scopes, k.created_by, k.created_at, k.last_used_at, k.revoked_at`

func keyTargets(k *APIKey) []any {
	return []any{&k.ID, &k.Prefix, &k.Name, &k.MerchantID, &k.Scopes, &k.CreatedBy, &k.CreatedAt, &k.LastUsedAt, &k.RevokedAt}
}

func scanKey(row pgx.CollectableRow) (APIKey, error) {
	var k APIKey
	err := row.Scan(keyTargets(&k)...)
	return k, err
}

// APIKeys lists all keys, newest first; revoked ones come last.
func (d *DB) APIKeys(ctx context.Context) ([]APIKey, error) {
	return pg.Collect(ctx, d.Pool, "read API keys", scanKey,
		`SELECT `+keyColumns+` FROM api_keys k ORDER BY k.revoked_at IS NOT NULL, k.created_at DESC, k.id DESC`)
}

// selectValidKeys reads the keys with the hashes $1 that are not revoked, for scanSignedKey. As (SELECT $1) an array is unknown to the
// planner, which then keeps one plan instead of making one for each array.
var selectValidKeys = `SELECT ` + keyColumns + `, k.mac, ` + keyring.SignedKeys.Text + `, k.hash FROM api_keys k WHERE k.hash = ANY ((SELECT $1::bytea[])::bytea[]) AND k.revoked_at IS NULL`

// signedKey writes what SignedKeys.Text selects: a token read takes less time without it. scopes have spaces between.
func signedKey(id, merchant pg.ID, hash []byte, scopes string) string {
	of := ""
	if merchant != (pg.ID{}) {
		of = merchant.String()
	}
	return id.String() + "|" + of + "|" + hex.EncodeToString(hash) + "|" + scopes
}

// signedAPIKey is a key with what authenticates it.
type signedAPIKey struct {
	key    APIKey
	mac    []byte
	signed string
	hash   []byte
}

func scanSignedKey(row pgx.CollectableRow) (s signedAPIKey, err error) {
	err = row.Scan(append(keyTargets(&s.key), &s.mac, &s.signed, &s.hash)...)
	return s, err
}

// authenticKey returns the key with a hash, of those that were read. It returns ErrNoAPIKey if it is not among them or its MAC is not
// valid, and seal.ErrUnknownKey as Authenticate does.
func (d *DB) authenticKey(read []signedAPIKey, hash []byte) (APIKey, error) {
	i := slices.IndexFunc(read, func(s signedAPIKey) bool { return bytes.Equal(s.hash, hash) })
	if i < 0 {
		return APIKey{}, ErrNoAPIKey
	}
	switch err := d.Authenticate(keyring.SignedKeys, read[i].signed, read[i].mac); {
	case errors.Is(err, seal.ErrForged):
		return APIKey{}, ErrNoAPIKey
	case err != nil:
		return APIKey{}, err
	}
	return read[i].key, nil
}

// APIKeyBySecret returns the key with a secret. It returns ErrNoAPIKey if there is none, it is revoked, or it is not signed.
func (d *DB) APIKeyBySecret(ctx context.Context, secret pg.Secret) (APIKey, error) {
	read, err := d.lookups.Read(ctx, keyRequest{keyHash: secret.Hash()})
	if err != nil {
		return APIKey{}, err
	}
	return d.authenticKey(read.keys, secret.Hash())
}

// ConnectionByAPIKey reads the key with a secret and one connection, in one round trip that concurrent calls share. It returns
// ErrNoAPIKey as APIKeyBySecret does, and the key with ErrNotFound if there is no such connection or the key is not for its merchant.
func (d *DB) ConnectionByAPIKey(ctx context.Context, secret pg.Secret, connection pg.ID) (APIKey, ConnectionDetail, error) {
	read, err := d.lookups.Read(ctx, keyRequest{keyHash: secret.Hash(), connection: connection})
	if err != nil {
		return APIKey{}, ConnectionDetail{}, err
	}
	key, err := d.authenticKey(read.keys, secret.Hash())
	if err != nil {
		return key, ConnectionDetail{}, err
	}
	i := slices.IndexFunc(read.connections, func(c ConnectionDetail) bool { return c.ID == connection })
	if i < 0 || key.MerchantID != (pg.ID{}) && key.MerchantID != read.connections[i].MerchantID {
		return key, ConnectionDetail{}, pg.ErrNotFound
	}
	return key, read.connections[i], nil
}

// MerchantByAPIKey reads the key with a secret and the merchant with an external id, as ConnectionByAPIKey does. It returns
// ErrNoAPIKey as APIKeyBySecret does, and the key with ErrNotFound if there is no such merchant.
func (d *DB) MerchantByAPIKey(ctx context.Context, secret pg.Secret, externalID string) (APIKey, Merchant, error) {
	externalID = text.Name(externalID)
	read, err := d.lookups.Read(ctx, keyRequest{keyHash: secret.Hash(), merchant: externalID})
	if err != nil {
		return APIKey{}, Merchant{}, err
	}
	key, err := d.authenticKey(read.keys, secret.Hash())
	if err != nil {
		return key, Merchant{}, err
	}
	i := slices.IndexFunc(read.merchants, func(m Merchant) bool { return externalID != "" && m.ExternalID == externalID })
	if i < 0 {
		return key, Merchant{}, pg.ErrNotFound
	}
	return key, read.merchants[i], nil
}

// keyRequest asks for a key by its hash and, with it, for nothing, a connection, or a merchant by its external id.
type keyRequest struct {
	keyHash    []byte
	connection pg.ID
	merchant   string
}

// keyTimeout is how long Postgres may take to answer such requests.
const keyTimeout = 5 * time.Second

// keyResult is what was read for a batch of requests.
type keyResult struct {
	keys        []signedAPIKey
	connections []ConnectionDetail
	merchants   []Merchant
}

func (d *DB) readByKeys(ctx context.Context, requests []keyRequest) ([]keyResult, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	var hashes [][]byte
	var connections []pg.ID
	var merchants []string
	for _, r := range requests {
		hashes = append(hashes, r.keyHash)
		if r.connection != (pg.ID{}) {
			connections = append(connections, r.connection)
		}
		if r.merchant != "" {
			merchants = append(merchants, r.merchant)
		}
	}
	var read keyResult
	var b pgx.Batch
	b.Queue(selectValidKeys, hashes).Query(func(rows pgx.Rows) (err error) {
		read.keys, err = pgx.CollectRows(rows, scanSignedKey)
		return err
	})
	if len(connections) > 0 {
		b.Queue(selectDetail+`WHERE c.id = ANY ((SELECT $1::uuid[])::uuid[])`, connections).Query(func(rows pgx.Rows) (err error) {
			read.connections, err = pgx.CollectRows(rows, d.scanDetail)
			return err
		})
	}
	if len(merchants) > 0 {
		b.Queue(`SELECT `+merchantColumns+` FROM merchants m WHERE m.external_id = ANY ((SELECT $1::text[])::text[])`, merchants).Query(func(rows pgx.Rows) (err error) {
			read.merchants, err = pgx.CollectRows(rows, scanMerchant)
			return err
		})
	}
	if err := d.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return nil, fmt.Errorf("read by key: %w", err)
	}
	return slices.Repeat([]keyResult{read}, len(requests)), nil
}

// DayReads is how many tokens a key was handed on one day (UTC).
type DayReads struct {
	Day   time.Time
	Count int64
}

// TokenReadsByDay returns a key's reads of the last days, oldest first; days without any are left out.
func (d *DB) TokenReadsByDay(ctx context.Context, key pg.ID, days int) ([]DayReads, error) {
	return pg.Collect(ctx, d.Pool, "read token reads", pgx.RowToStructByPos[DayReads], `
		SELECT day::timestamp AT TIME ZONE 'UTC', reads FROM api_key_daily_reads
		WHERE key_id = $1 AND day > ($2::timestamptz AT TIME ZONE 'UTC')::date - $3::integer ORDER BY day`, key, d.Now(), days)
}
