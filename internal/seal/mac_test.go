package seal_test

import (
	"bytes"
	"encoding/base64"
	"testing"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	tink "github.com/tink-crypto/tink-go/v2/keyset"

	"patchbay/internal/seal"
)

func TestAMACIsOfOneKindAndText(t *testing.T) {
	k, other := keyset(t), keyset(t)
	mac := k.Sign("api_keys k", "a|b|c")
	if !k.Verify(mac, "api_keys k", "a|b|c") || !bytes.Equal(mac, k.Sign("api_keys k", "a|b|c")) {
		t.Fatal("it does not verify what it signed")
	}
	flipped := bytes.Clone(mac)
	flipped[20] ^= 1
	for what, bad := range map[string]bool{
		"another text":   k.Verify(mac, "api_keys k", "a|b|d"),
		"another kind":   k.Verify(mac, "links l", "a|b|c"),
		"another keyset": other.Verify(mac, "api_keys k", "a|b|c"),
		"a flipped bit":  k.Verify(flipped, "api_keys k", "a|b|c"),
		"no key's id":    k.Verify(mac[4:], "api_keys k", "a|b|c"),
		"nothing":        k.Verify(nil, "api_keys k", "a|b|c"),
		"zeros":          k.Verify(make([]byte, len(mac)), "api_keys k", "a|b|c"),
	} {
		if bad {
			t.Errorf("%s verifies", what)
		}
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
	if signed := both.Sign("users u", "row"); !both.Verify(old, "users u", "row") || !both.Verify(signed, "users u", "row") || before.Verify(signed, "users u", "row") {
		t.Error("with both keys, either verifies and the new one signs")
	}
	if err := m.Delete(before.Primary()); err != nil {
		t.Fatal(err)
	}
	if parsed().Verify(old, "users u", "row") {
		t.Error("a key that is gone verifies")
	}
}
