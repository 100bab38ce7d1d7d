package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	tink "github.com/tink-crypto/tink-go/v2/keyset"

	"patchbay/internal/seal"
)

func TestAMACIsOfOneKindAndText(t *testing.T) {
	k, other := keyset(t), keyset(t)
	mac := k.Sign("api_keys k", "a|b|c")
	if err := k.Verify(mac, "api_keys k", "a|b|c"); err != nil || !bytes.Equal(mac, k.Sign("api_keys k", "a|b|c")) {
		t.Fatalf("it does not verify what it signed: %v", err)
	}
	flipped := bytes.Clone(mac)
	flipped[20] ^= 1
	for what, c := range map[string]struct{ got, want error }{
		"another text":                 {k.Verify(mac, "api_keys k", "a|b|d"), seal.ErrForged},
		"another kind":                 {k.Verify(mac, "links l", "a|b|c"), seal.ErrForged},
		"another keyset":               {other.Verify(mac, "api_keys k", "a|b|c"), seal.ErrUnknownKey},
		"a flipped bit":                {k.Verify(flipped, "api_keys k", "a|b|c"), seal.ErrForged},
		"no key's id":                  {k.Verify(mac[4:], "api_keys k", "a|b|c"), seal.ErrForged},
		"one byte more":                {k.Verify(append(bytes.Clone(mac), 0), "api_keys k", "a|b|c"), seal.ErrForged},
		"nothing":                      {k.Verify(nil, "api_keys k", "a|b|c"), seal.ErrForged},
		"zeros":                        {k.Verify(make([]byte, len(mac)), "api_keys k", "a|b|c"), seal.ErrUnknownKey},
		"another keyset, another text": {other.Verify(mac, "api_keys k", "a|b|d"), seal.ErrUnknownKey},
	} {
		if !errors.Is(c.got, c.want) {
			t.Errorf("%s: %v, want %v", what, c.got, c.want)
		}
	}
	if seal.MACKeyID(mac) != k.Primary() || seal.MACKeyID(nil) != 0 {
		t.Errorf("the key is %d, want %d", seal.MACKeyID(mac), k.Primary())
	}
}

// TestAMACOutlivesRotation adds a key to a keyset, makes it the primary one, and then deletes the old.
func TestAMACOutlivesRotation(t *testing.T) {
	text, err := seal.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	before, err := seal.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := insecurecleartextkeyset.Read(tink.NewBinaryReader(bytes.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	m := tink.NewManagerFromHandle(handle)
	fresh, err := m.Add(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if err := m.SetPrimary(fresh); err != nil {
		t.Fatal(err)
	}
	parsed := func() *seal.Keyset {
		t.Helper()
		now, err := m.Handle()
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := insecurecleartextkeyset.Write(now, tink.NewBinaryWriter(&b)); err != nil {
			t.Fatal(err)
		}
		k, err := seal.Parse(base64.StdEncoding.EncodeToString(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	old := before.Sign("users u", "row")
	both := parsed()
	signed := both.Sign("users u", "row")
	if both.Verify(old, "users u", "row") != nil || both.Verify(signed, "users u", "row") != nil {
		t.Error("with both keys, either verifies")
	}
	if err := before.Verify(signed, "users u", "row"); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("with the old key alone: %v", err)
	}
	if err := m.Delete(before.Primary()); err != nil {
		t.Fatal(err)
	}
	if err := parsed().Verify(old, "users u", "row"); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("by a key that is gone: %v", err)
	}
}
