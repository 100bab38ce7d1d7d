package db_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"

	"github.com/jackc/pgx/v5"
)

// TestTokensReadTogetherAreEachTheirOwn has many callers read at once, so that they share statements.
func TestTokensReadTogetherAreEachTheirOwn(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	d := dbtest.New(t)
	key := func(name string, merchant pg.ID, scopes ...string) pg.Secret {
		_, secret, err := d.AddAPIKey(ctx, audit.System, db.APIKey{Name: name, MerchantID: merchant, Scopes: scopes})
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	type read struct {
		what       string
		key        pg.Secret
		connection pg.ID
		may        bool
		access     string
		err        error
	}
	var reads []read
	platform, lists := key("platform", pg.ID{}, db.Scopes()...), key("lists", pg.ID{}, db.ScopeConnections)
	for m := range 3 {
		merchant := dbtest.Merchant(t, d, fmt.Sprintf("Shop %d", m))
		own, foreign := key(fmt.Sprintf("own %d", m), merchant.ID, db.ScopeTokens), key(fmt.Sprintf("foreign %d", m), dbtest.Merchant(t, d, fmt.Sprintf("Other %d", m)).ID, db.ScopeTokens)
		for a := range 4 {
			access := fmt.Sprintf("token %d of %d", a, m)
			id, err := d.AddConnection(ctx, merchant.ID, "elecq", "sandbox", connectors.Grant{
				Token: connectors.Token{Access: access, Type: "Bearer", Lifetime: time.Hour, Refresh: "r"}, Account: connectors.Account{ID: access},
			}, d.Now(), connectors.Info{})
			if err != nil {
				t.Fatal(err)
			}
			reads = append(reads,
				read{"the platform's key", platform, id, true, access, nil},
				read{"the merchant's key", own, id, true, access, nil},
				read{"another merchant's key", foreign, id, true, "", pg.ErrNotFound},
				read{"a key without the scope", lists, id, false, access, nil},
				read{"no key", pg.Secret("pb_nothing"), id, false, "", db.ErrNoAPIKey},
				read{"no connection", platform, pg.NewID(), true, "", pg.ErrNotFound})
		}
	}
	var all sync.WaitGroup
	for range 10 {
		for _, r := range reads {
			all.Go(func() {
				h, ok, err := d.ReadToken(ctx, r.key, r.connection)
				if !errors.Is(err, r.err) || h.Token.Access != r.access || ok != (r.access != "") || h.Allowed != r.may || ok && h.AccountID != r.access {
					t.Errorf("%s: token %q of account %q, may %v, ok %v, %v; want %q, may %v, %v", r.what, h.Token.Access, h.AccountID, h.Allowed, ok, err, r.access, r.may, r.err)
				}
			})
		}
	}
	dbtest.Wait(t, &all, "the readers")
}

func TestWhatProgramsAskForByKeyIsPlannedOnce(t *testing.T) {
	d := dbtest.New(t, pg.Options{MaxConns: 1})
	for range 10 { // Postgres plans a statement with its arguments five times before it keeps a plan without
		if _, _, err := d.ConnectionByAPIKey(t.Context(), "no such key", pg.NewID()); !errors.Is(err, db.ErrNoAPIKey) {
			t.Fatal(err)
		}
		if _, _, err := d.MerchantByAPIKey(t.Context(), "no such key", "shop-17"); !errors.Is(err, db.ErrNoAPIKey) {
			t.Fatal(err)
		}
		if _, _, err := d.ReadToken(t.Context(), "no such key", pg.NewID()); !errors.Is(err, db.ErrNoAPIKey) {
			t.Fatal(err)
		}
	}
	kept, err := pg.Collect(t.Context(), d.Pool, "read statements", pgx.RowTo[bool], `
		SELECT generic_plans > 0 FROM pg_prepared_statements WHERE statement ~ 'api_keys|connections|merchants' AND statement !~ 'pg_prepared_statements'`)
	if err != nil || len(kept) != 4 || slices.Contains(kept, false) {
		t.Errorf("statements with a plan that is kept: %v, %v", kept, err)
	}
}
