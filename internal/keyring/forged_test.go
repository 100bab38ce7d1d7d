package keyring_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
)

// TestRowsWrittenWithoutTheKeysetReadNoToken writes rows as the serving role can, without the keyset, and reads with keys.
func TestRowsWrittenWithoutTheKeysetReadNoToken(t *testing.T) {
	forged := pg.Secret("pb_forged-by-the-attacker")
	for what, c := range map[string]struct {
		sql  string // $1 the victim's connection, $2 the attacker's merchant, $3 the attacker's key, $4 its connection
		key  string
		want error // nil: the key is good, and no token is handed out
	}{
		"the connection is given to another merchant": {`UPDATE connections SET merchant_id = $2 WHERE id = $1`, "own", nil},
		"the same, as the platform's key reads it":    {`UPDATE connections SET merchant_id = $2 WHERE id = $1`, "platform", nil},
		"the ciphertext is moved to another row": {
			`UPDATE grants SET sealed = v.sealed, generation = v.generation FROM grants v WHERE v.connection_id = $1 AND grants.connection_id = $4`, "own, its own connection", nil,
		},
		"yesterday's ciphertext is put back alone": {`UPDATE grants SET generation = generation + 1 WHERE connection_id = $1`, "platform", nil},
		"a key is forged": {
			`INSERT INTO api_keys (id, prefix, hash, name, scopes, created_at, mac) SELECT gen_random_uuid(), 'pb_', $5, 'forged', '{tokens:read}', now(), mac FROM api_keys WHERE id = $3`, "forged", db.ErrNoAPIKey,
		},
		"a key is widened to all merchants": {`UPDATE api_keys SET merchant_id = NULL WHERE id = $3`, "own", db.ErrNoAPIKey},
		"a key is given to another merchant": {
			`UPDATE api_keys SET merchant_id = (SELECT merchant_id FROM connections WHERE id = $1) WHERE id = $3`, "own", db.ErrNoAPIKey,
		},
		"a key is given another scope": {`UPDATE api_keys SET scopes = '{tokens:read,connections:refresh}' WHERE id = $3`, "own", db.ErrNoAPIKey},
		"a key's secret is replaced":   {`UPDATE api_keys SET hash = $5 WHERE merchant_id IS NULL AND revoked_at IS NULL`, "forged", db.ErrNoAPIKey},
		"a revoked key is revived":     {`UPDATE api_keys SET revoked_at = NULL`, "revoked", db.ErrNoAPIKey},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx := context.Background()
			d := dbtest.New(t)
			victim, attacker := dbtest.Merchant(t, d, "Victim"), dbtest.Merchant(t, d, "Attacker")
			connect := func(merchant pg.ID, account string) pg.ID {
				id, err := d.AddConnection(ctx, merchant, "elecq", "sandbox", connectors.Grant{
					Token: connectors.Token{Access: "secret of " + account, Type: "Bearer", Lifetime: time.Hour, Refresh: "refresh"}, Account: connectors.Account{ID: account},
				}, d.Now(), connectors.Info{})
				if err != nil {
					t.Fatal(err)
				}
				return id
			}
			theirs, own := connect(victim.ID, "victim"), connect(attacker.ID, "attacker")
			add := func(name string, merchant pg.ID) (db.APIKey, pg.Secret) {
				k, secret, err := d.AddAPIKey(ctx, audit.System, db.APIKey{Name: name, MerchantID: merchant, Scopes: []string{db.ScopeTokens}})
				if err != nil {
					t.Fatal(err)
				}
				return k, secret
			}
			key, secret := add("attacker's", attacker.ID)
			_, platform := add("platform", pg.ID{})
			old, revoked := add("old", pg.ID{})
			if _, err := d.RevokeAPIKey(ctx, audit.System, old.ID); err != nil {
				t.Fatal(err)
			}
			for name, id := range map[string]pg.ID{"victim": theirs, "attacker": own} {
				if h, ok, err := d.ReadToken(ctx, platform, id); err != nil || !ok || h.Token.Access != "secret of "+name {
					t.Fatalf("as it was written: %v, %v", ok, err)
				}
			}
			// Every parameter is used, whatever the statement leaves out.
			if _, err := d.Pool.Exec(ctx, `WITH used AS (SELECT $1::uuid, $2::uuid, $3::uuid, $4::uuid, $5::bytea) `+c.sql, theirs, attacker.ID, key.ID, own, forged.Hash()); err != nil {
				t.Fatal(err)
			}
			id, by := theirs, secret
			switch c.key {
			case "own, its own connection":
				id = own
			case "platform":
				by = platform
			case "forged":
				by = forged
			case "revoked":
				by = revoked
			}
			h, ok, err := d.ReadToken(ctx, by, id)
			if ok || h.Token.Access != "" || !errors.Is(err, c.want) {
				t.Errorf("token %q, ok %v, err %v; want none and %v", h.Token.Access, ok, err, c.want)
			}
			if _, err := d.APIKeyBySecret(ctx, by); !errors.Is(err, c.want) {
				t.Errorf("the key alone: %v, want %v", err, c.want)
			}
			if _, _, err := d.ConnectionByAPIKey(ctx, by, id); !errors.Is(err, c.want) {
				t.Errorf("the key and the connection: %v, want %v", err, c.want)
			}
			if c.want == nil {
				if r, err := d.ReadGrant(ctx, id); err != nil || r.Token.Access != "" || !r.Sealed {
					t.Errorf("the grant: %q, sealed %v, %v", r.Token.Access, r.Sealed, err)
				}
			}
		})
	}
}

// TestNoStartSignsWhatHasNoMAC starts on a database in which a row was added without the keyset.
func TestNoStartSignsWhatHasNoMAC(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	database := dbtest.Make(t)
	d := database.Open(t)
	k, secret, err := d.AddAPIKey(ctx, audit.System, db.APIKey{Name: "erp", Scopes: []string{db.ScopeTokens}})
	if err != nil {
		t.Fatal(err)
	}
	unsigned := func() {
		t.Helper()
		if _, err := d.Pool.Exec(ctx, `UPDATE api_keys SET mac = NULL WHERE id = $1`, k.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := d.APIKeyBySecret(ctx, secret); !errors.Is(err, db.ErrNoAPIKey) {
			t.Fatalf("without a MAC: %v", err)
		}
	}
	for what, sql := range map[string]string{"nothing else": `SELECT`, "the mark is deleted": `DELETE FROM keyset_check`} {
		unsigned()
		if _, err := d.Pool.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
		if _, err := database.Open(t).APIKeyBySecret(ctx, secret); !errors.Is(err, db.ErrNoAPIKey) {
			t.Errorf("a key without a MAC, %s: a later start signed it: %v", what, err)
		}
	}
}
