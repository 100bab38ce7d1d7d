package seal_test

import (
	"bytes"
	"errors"
	"testing"

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

// TestAKeysetTurnsOver adds a key to a keyset, has it seal, and takes the old one out. What the old one made is read until then.
func TestAKeysetTurnsOver(t *testing.T) {
	before := keyset(t)
	old := before.Primary()
	at := seal.Place{Table: "grants", Column: "sealed", Row: [16]byte{1}}
	type made struct{ sealed, mac []byte }
	by := func(k *seal.Keyset) made {
		sealed, err := k.Seal([]byte("secret"), at)
		if err != nil {
			t.Fatal(err)
		}
		return made{sealed, k.Sign("users u", "row")}
	}
	reads := func(what string, k *seal.Keyset, m made, want error) {
		t.Helper()
		if _, err := k.Open(m.sealed, at); !errors.Is(err, want) {
			t.Errorf("%s, sealed: %v, want %v", what, err, want)
		}
		if err := k.Verify(m.mac, "users u", "row"); !errors.Is(err, want) {
			t.Errorf("%s, signed: %v, want %v", what, err, want)
		}
	}
	changed := func(k *seal.Keyset, err error) *seal.Keyset {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		text, err := k.Text()
		if err != nil {
			t.Fatal(err)
		}
		if k, err = seal.Parse(text); err != nil {
			t.Fatal(err)
		}
		return k
	}
	added, fresh, err := before.Add()
	added = changed(added, err)
	if added.Primary() != old || added.Len() != 2 || added.IDs()[1] != fresh {
		t.Errorf("added: %d seals of %v, the new one is %d", added.Primary(), added.IDs(), fresh)
	}
	reads("what the old one made", added, by(before), nil)
	promoted := changed(added.Promote(fresh))
	if promoted.Primary() != fresh || promoted.Len() != 2 {
		t.Errorf("promoted: %d seals of %v", promoted.Primary(), promoted.IDs())
	}
	reads("what the old one made", promoted, by(before), nil)
	reads("what the new one made, where it was only added", added, by(promoted), nil)
	reads("what the new one made, where it is missing", before, by(promoted), seal.ErrUnknownKey)
	retired := changed(promoted.Retire(old))
	if retired.Primary() != fresh || retired.Len() != 1 || retired.Has(old) {
		t.Errorf("retired: %d seals of %v", retired.Primary(), retired.IDs())
	}
	reads("what the new one made", retired, by(promoted), nil)
	reads("what the old one made", retired, by(before), seal.ErrUnknownKey)

	for what, err := range map[string]error{
		"to promote a key that is not there": func() error { _, err := retired.Promote(old); return err }(),
		"to retire a key that is not there":  func() error { _, err := retired.Retire(old); return err }(),
	} {
		if !errors.Is(err, seal.ErrNoKey) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := promoted.Retire(fresh); !errors.Is(err, seal.ErrSealing) {
		t.Errorf("to retire the key that seals: %v", err)
	}
}
