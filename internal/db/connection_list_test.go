package db_test

import (
	"reflect"
	"strings"
	"testing"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
	"patchbay/internal/search"
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
			page, err := d.EndedConnections(ctx, shop, details, "", 10)
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
