package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"patchbay/internal/seal"
)

func keyset(t testing.TB) *seal.Keyset {
	t.Helper()
	text, err := seal.NewKeyset()
	if err != nil {
		t.Fatal(err)
	}
	k, err := seal.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestACiphertextOpensOnlyInItsPlaceAndByItsKeyset(t *testing.T) {
	k := keyset(t)
	at := seal.Place{Table: "grants", Column: "sealed", Row: [16]byte{1}, Generation: 7}
	sealed, err := k.Seal([]byte("secret"), at)
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := k.Open(sealed, at); err != nil || string(plain) != "secret" {
		t.Errorf("opened as %q, %v", plain, err)
	}
	if seal.KeyID(sealed) != k.Primary() {
		t.Errorf("sealed by key %d, the primary is %d", seal.KeyID(sealed), k.Primary())
	}
	for name, other := range map[string]seal.Place{
		"table":      {Table: "flows", Column: "sealed", Row: [16]byte{1}, Generation: 7},
		"column":     {Table: "grants", Column: "late_grant", Row: [16]byte{1}, Generation: 7},
		"row":        {Table: "grants", Column: "sealed", Row: [16]byte{2}, Generation: 7},
		"generation": {Table: "grants", Column: "sealed", Row: [16]byte{1}, Generation: 6},
	} {
		if _, err := k.Open(sealed, other); !errors.Is(err, seal.ErrSealed) {
			t.Errorf("in another %s: %v", name, err)
		}
	}
}

// TestAnUnknownKeyIsToldFromDamage has ciphertexts that another keyset's key sealed beside ones that are damaged.
func TestAnUnknownKeyIsToldFromDamage(t *testing.T) {
	k, other := keyset(t), keyset(t)
	at := seal.Place{Table: "grants", Column: "sealed", Row: [16]byte{1}, Generation: 7, Merchant: [16]byte{2}}
	sealed, err := k.Seal([]byte("secret"), at)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(i int, b byte) []byte {
		c := bytes.Clone(sealed)
		c[i] ^= b
		return c
	}
	for what, c := range map[string]struct {
		by     *seal.Keyset
		sealed []byte
		want   error
	}{
		"another keyset":                   {other, sealed, seal.ErrUnknownKey},
		"another keyset, and damaged":      {other, changed(30, 1), seal.ErrUnknownKey},
		"another keyset, cut to its key":   {other, sealed[:5], seal.ErrUnknownKey},
		"another key's id":                 {k, changed(4, 1), seal.ErrUnknownKey},
		"a flipped bit of the text":        {k, changed(20, 1), seal.ErrSealed},
		"a flipped bit of the tag":         {k, changed(len(sealed)-1, 128), seal.ErrSealed},
		"cut short":                        {k, sealed[:len(sealed)-1], seal.ErrSealed},
		"its key's id alone":               {k, sealed[:5], seal.ErrSealed},
		"too short for a key's id":         {other, sealed[:4], seal.ErrSealed},
		"another format":                   {other, changed(0, 2), seal.ErrSealed},
		"nothing":                          {other, nil, seal.ErrSealed},
		"a word that nobody has encrypted": {other, []byte("secret"), seal.ErrSealed},
	} {
		if _, err := c.by.Open(c.sealed, at); !errors.Is(err, c.want) || errors.Is(err, seal.ErrSealed) && errors.Is(err, seal.ErrUnknownKey) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
}

func TestAKeysetIsNeverPrinted(t *testing.T) {
	k := keyset(t)
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(format, k); got != "•••" {
			t.Errorf("%s prints %q", format, got)
		}
	}
}

func FuzzOpen(f *testing.F) {
	k := keyset(f)
	at := seal.Place{Table: "grants", Column: "sealed", Row: [16]byte{1}, Generation: 1}
	good, err := k.Seal([]byte("secret"), at)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:5])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, sealed []byte) {
		plain, err := k.Open(sealed, at)
		if err == nil != bytes.Equal(sealed, good) || err != nil && (plain != nil || errors.Is(err, seal.ErrSealed) == errors.Is(err, seal.ErrUnknownKey)) {
			t.Errorf("opened %x as %q, %v", sealed, plain, err)
		}
	})
}

func FuzzParse(f *testing.F) {
	good, err := seal.NewKeyset()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if _, err := seal.Parse(text); err != nil && len(text) > 8 && strings.Contains(err.Error(), text) {
			t.Errorf("the error quotes the keyset: %v", err)
		}
	})
}
