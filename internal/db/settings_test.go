package db_test

import (
	"context"
	"testing"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
)

func TestSecretsOfAnOldKeyAreCounted(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	database := dbtest.Make(t)
	before := database.Open(t)
	m, err := before.AddMerchant(ctx, audit.System, db.Merchant{Name: "Shop"})
	if err != nil {
		t.Fatal(err)
	}
	add := func(d *db.DB, account string) {
		t.Helper()
		g := connectors.Grant{Token: connectors.Token{Access: "a", Lifetime: time.Hour}, Account: connectors.Account{ID: account}}
		if _, err := d.AddConnection(ctx, m.ID, "caminvoice", "sandbox", g, d.Now(), connectors.Info{KeepAlive: time.Hour}); err != nil {
			t.Fatal(err)
		}
	}
	old := func(d *db.DB) int64 {
		t.Helper()
		if err := d.CountOldSeals(ctx); err != nil {
			t.Fatal(err)
		}
		n, err := d.OldSeals(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	add(before, "1")
	add(before, "2")
	if n := old(before); n != 0 {
		t.Errorf("%d of an old key, with one key", n)
	}
	database = database.Rotated(t)
	after := database.Open(t)
	add(after, "3")
	if n := old(after); n != 3 {
		t.Errorf("%d of an old key, not the two sealed before and the word of the first start", n)
	}
}

func TestRetentionIsKept(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d := dbtest.New(t)
	if months, err := d.Audit.Retention(ctx); err != nil || months != 0 {
		t.Errorf("%d months before anybody said so, %v", months, err)
	}
	if err := d.Audit.SetRetention(ctx, audit.System, 6); err != nil {
		t.Fatal(err)
	}
	if months, err := d.Audit.Retention(ctx); err != nil || months != 6 {
		t.Errorf("%d months, %v", months, err)
	}
}
