package db_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
)

func TestMerchantsOfOneName(t *testing.T) {
	d := dbtest.New(t)
	ctx := t.Context()
	ensure := func(name string) error {
		return d.Tx(ctx, func(tx pgx.Tx) error {
			_, err := d.EnsureMerchant(ctx, tx, audit.System, name)
			return err
		})
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := ensure(" Sok Shop"); err != nil {
				t.Error(err)
			}
		})
	}
	dbtest.Wait(t, &wg, "the callers")
	if _, err := d.MerchantByName(ctx, "sok shop"); err != nil {
		t.Fatalf("four at once added other than one merchant: %v", err)
	}
	if _, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "SOK SHOP", ExternalID: "shop-17"}); err != nil {
		t.Fatal(err)
	}
	if err := ensure("Sok Shop"); !errors.Is(err, db.ErrAmbiguousName) {
		t.Errorf("a name that two have: %v", err)
	}
	if err := ensure("  "); !errors.Is(err, db.ErrNoName) {
		t.Errorf("no name: %v", err)
	}
	if _, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "Other", ExternalID: "shop-17"}); !errors.Is(err, db.ErrExternalIDTaken) {
		t.Errorf("an external id twice: %v", err)
	}
}

func TestListMerchants(t *testing.T) {
	d := dbtest.New(t)
	ctx := t.Context()
	for i := range 7 {
		m := db.Merchant{Name: fmt.Sprintf("Shop %d", i), ExternalID: fmt.Sprintf("shop_%d", i)}
		if _, err := d.AddMerchant(ctx, audit.System, m); err != nil {
			t.Fatal(err)
		}
		dbtest.User(t, d, audit.RoleMerchant, fmt.Sprintf("p%d@shop.example", i), "", m.Name)
	}
	if _, err := d.AddMerchant(ctx, audit.System, db.Merchant{Name: "ក្រុមហ៊ុនស៊ីអេច១៦៨"}); err != nil {
		t.Fatal(err)
	}

	page, err := d.ListMerchants(ctx, "", "", 3)
	if err != nil || len(page.Rows) != 3 || page.Rows[0].Name != "Shop 0" || page.Rows[0].People != 1 || page.Prev != "" {
		t.Fatalf("the first page: %+v, %v", page, err)
	}
	next, err := d.ListMerchants(ctx, "", page.Next, 3)
	if err != nil || len(next.Rows) != 3 || next.Rows[0].Name != "Shop 3" {
		t.Fatalf("the next page: %+v, %v", next, err)
	}
	back, err := d.ListMerchants(ctx, "", next.Prev, 3)
	if err != nil || len(back.Rows) != 3 || back.Rows[0].ID != page.Rows[0].ID || back.Prev != "" {
		t.Fatalf("back again: %+v, %v", back, err)
	}
	for search, want := range map[string]string{"shop_4": "Shop 4", "ស៊ីអេច": "ក្រុមហ៊ុនស៊ីអេច១៦៨", "SHOP 5": "Shop 5"} {
		if found, err := d.ListMerchants(ctx, search, "", 3); err != nil || len(found.Rows) != 1 || found.Rows[0].Name != want {
			t.Errorf("%q finds %+v, %v", search, found, err)
		}
	}
	if found, err := d.ListMerchants(ctx, "shop%", "", 3); err != nil || len(found.Rows) != 0 {
		t.Errorf("a wildcard finds %+v, %v", found, err)
	}
}
