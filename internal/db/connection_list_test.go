package db_test

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/pg"
	"patchbay/internal/search"

	"github.com/jackc/pgx/v5"
)

// TestListsReadTheDetailsThatTheyShow has every list read all that a provider told of an account, some of it, and nothing.
func TestListsReadTheDetailsThatTheyShow(t *testing.T) {
	d := dbtest.New(t)
	ctx := t.Context()
	shop := dbtest.Merchant(t, d, "Angkor").ID
	told := []connectors.Detail{{Key: "tin", Value: "K001"}, {Key: "logo", Value: strings.Repeat("x", 4000)}, {Key: "name_kh", Value: "អង្គរ"}}
	id, err := d.AddConnection(ctx, shop, "acme", "sandbox", connectors.Grant{Account: connectors.Account{
		ID: "1", Name: "Angkor", Details: told, Values: connectors.Values{"instance": "eu"}, Input: map[string]string{"shop": "angkor"},
	}}, d.Now(), connectors.Info{})
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string]func(details []string) (db.Connection, error){
		"of all merchants": func(details []string) (c db.Connection, err error) {
			err = d.EachConnection(ctx, search.Filter{}, details, func(r db.ConnectionRow) error {
				c = r.Connection
				return nil
			})
			return c, err
		},
		"of a merchant": func(details []string) (db.Connection, error) {
			all, err := d.MerchantConnections(ctx, shop, details)
			return append(all, db.Connection{})[0], err
		},
		"of a merchant, disconnected": func(details []string) (db.Connection, error) {
			page, err := d.DisconnectedConnections(ctx, shop, details, "", 10)
			return append(page.Rows, db.Connection{})[0], err
		},
	}
	for _, name := range []string{"of all merchants", "of a merchant", "of a merchant, disconnected"} {
		if strings.HasSuffix(name, "disconnected") {
			if _, _, err := d.Disconnect(ctx, id, shop, audit.System, nil); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct {
			asked, want []string
		}{{nil, []string{"tin", "logo", "name_kh"}}, {[]string{"name_kh", "tin", ""}, []string{"tin", "name_kh"}}, {[]string{}, nil}} {
			got, err := lists[name](c.asked)
			if err != nil || got.ID != id || got.Account.Name != "Angkor" {
				t.Fatalf("%s, %v: %v %v", name, c.asked, got.ID, err)
			}
			var keys []string
			for _, one := range got.Account.Details {
				keys = append(keys, one.Key)
			}
			if !reflect.DeepEqual(keys, c.want) || len(got.Account.Values) == 0 || (len(got.Account.Input) > 0) != (c.asked == nil) {
				t.Errorf("%s, asked for %v: details %v, values %v, input %v", name, c.asked, keys, got.Account.Values, got.Account.Input)
			}
		}
	}
}

func TestSearchKnowsReferences(t *testing.T) {
	d := dbtest.New(t)
	shop := dbtest.Merchant(t, d, "Shop").ID
	dbtest.User(t, d, audit.RoleMerchant, "a@shop.example", "", "Shop")
	connection := dbtest.Connection(t, d, shop, "caminvoice", "KHUID1", "A")
	dbtest.Connection(t, d, shop, "caminvoice", "KHUID2", "B")
	run(t, d, `INSERT INTO flows (id, reference, state_hash, browser_hash, user_id, merchant_id, provider, environment, stage, result_id, created_at, touched_at, expires_at)
		SELECT gen_random_uuid(), 'K7M2-4QX0', '\x01', '\x02', id, merchant_id, 'caminvoice', 'sandbox', 'connected', $1, now(), now(), now() FROM users`, connection)
	for _, typed := range []string{"K7M2-4QX0", "k7m24qxo", " k7m2 4qx0 "} {
		page, err := d.Connections(t.Context(), search.Filter{Query: typed}, nil, "", 50)
		if err != nil || page.Flow == nil || len(page.Rows) != 1 || page.Rows[0].ID != connection {
			t.Errorf("%q: %+v, %v", typed, page, err)
		}
	}
}

func TestAConnectionIsFoundByItsReference(t *testing.T) {
	d := dbtest.New(t)
	shop := dbtest.Merchant(t, d, "CH168 Shop").ID
	at := func(id string) pg.ID {
		run(t, d, `INSERT INTO connections (id, merchant_id, provider, environment, account_id, account_name, connected_at) VALUES ($1, $2, 'elecq', 'sandbox', $3, 'x', now())`, id, shop, id)
		parsed, err := pg.ParseID(id)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	one := at("01980000-0000-7000-8000-00f0000000ff")
	shared, sharing := at("01980000-0000-7000-8000-000842108421"), at("01990000-0000-7000-9000-ff0842108421")
	if got := (db.Connection{ID: one}).Reference(); got != "Y000-007Z" {
		t.Errorf("the reference is %s", got)
	}
	for typed, want := range map[string][]pg.ID{
		"Y000-007Z":   {one},
		"y000007z":    {one},
		" yooo oo7z ": {one},
		"1111-1111":   {shared, sharing},
		"iLI1 lIl1":   {shared, sharing},
		"Y000-007X":   nil,
	} {
		page, err := d.Connections(t.Context(), search.Filter{Query: typed}, nil, "", 50)
		if err != nil {
			t.Fatal(err)
		}
		var got []pg.ID
		for _, r := range page.Rows {
			got = append(got, r.ID)
		}
		slices.SortFunc(got, func(a, b pg.ID) int { return slices.Compare(a[:], b[:]) })
		if !slices.Equal(got, want) {
			t.Errorf("%q finds %v, want %v", typed, got, want)
		}
	}

	tx, err := d.Pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), `SET LOCAL enable_seqscan = off`); err != nil {
		t.Fatal(err)
	}
	plan, err := pg.Collect(t.Context(), tx, "explain", pgx.RowTo[string], `EXPLAIN SELECT c.id FROM connections c WHERE right(c.id::text, 10) = $1 LIMIT 100`, "f0000000ff")
	if err != nil || !strings.Contains(strings.Join(plan, " "), "connections_reference") {
		t.Errorf("%v: not found by an index: %v", err, plan)
	}
}
