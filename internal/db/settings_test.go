package db_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"testing"
	"time"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/db/dbtest"
)

// rotated is the keyset with a new key in front.
func rotated(t *testing.T, text string) string {
	t.Helper()
	return changed(t, text, func(m *keyset.Manager, _ uint32) error {
		id, err := m.Add(aead.AES256GCMKeyTemplate())
		if err != nil {
			return err
		}
		return m.SetPrimary(id)
	})
}

// retired is the keyset with its first key alone.
func retired(t *testing.T, text string) string {
	t.Helper()
	return changed(t, text, func(m *keyset.Manager, primary uint32) error {
		handle, err := m.Handle()
		for _, key := range handle.KeysetInfo().GetKeyInfo() {
			if err == nil && key.GetKeyId() != primary {
				err = m.Delete(key.GetKeyId())
			}
		}
		return err
	})
}

func changed(t *testing.T, text string, change func(m *keyset.Manager, primary uint32) error) string {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	manager := keyset.NewManagerFromHandle(handle)
	if err := change(manager, handle.KeysetInfo().GetPrimaryKeyId()); err != nil {
		t.Fatal(err)
	}
	if handle, err = manager.Handle(); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewBinaryWriter(&b)); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

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
	database.Keyset = rotated(t, database.Keyset)
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
