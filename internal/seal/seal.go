// Package seal encrypts secrets for storage and binds each ciphertext to the place it is stored at.
//
// A ciphertext is what Tink's AEAD writes:
//
//	byte 0      1, Tink's format
//	bytes 1-4   id of the key that sealed, big-endian
//	then        AES-256-GCM: 12 bytes of nonce, the encrypted text, 16 bytes of tag
//
// Its associated data, which is not stored, is the place it belongs to: table, column, row, generation in decimal and the row's merchant, with a
// zero byte between them, row and merchant as a UUID is written. A ciphertext that is moved to another table, column, row or merchant, or
// is beside another generation than its own, does not open.
//
// Rows that give authority and hold no secret are signed: see Sign.
package seal

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	tink_go_proto "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// Errors of what is kept sealed or signed.
var (
	// ErrSealed is returned for a ciphertext that does not open though the keyset has the key that it names, or that names none: it is
	// damaged, or belongs to another place.
	ErrSealed = errors.New("damaged, or sealed for another place")
	// ErrForged is returned for a MAC that no key of the keyset made for this kind and text.
	ErrForged = errors.New("the MAC is not valid")
	// ErrUnknownKey is returned for a ciphertext or a MAC that names a key which the keyset lacks: whether it is valid is not known.
	ErrUnknownKey = errors.New("by a key that this keyset lacks")
	// ErrNoKey is returned for a key that is to be changed and that the keyset lacks.
	ErrNoKey = errors.New("the keyset has no such key")
	// ErrSealing is returned for a key that cannot be taken out, because it seals.
	ErrSealing = errors.New("this key seals")
)

// Keyset seals and opens secrets. Its primary key seals, every key opens. It is safe for concurrent use.
type Keyset struct {
	handle  *keyset.Handle
	aead    tink.AEAD
	primary uint32
	ids     []uint32          // of the keys in use, the oldest first
	macKeys map[uint32][]byte // by the id of the key they are derived from
}

// NewKeyset makes a keyset of one fresh key, in the form that Parse reads: Tink's binary keyset in base64.
func NewKeyset() (string, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", fmt.Errorf("make a keyset: %w", err)
	}
	k, err := ofHandle(handle)
	if err != nil {
		return "", err
	}
	return k.Text()
}

// Parse reads what NewKeyset and Text return. Its errors never quote the text.
func Parse(text string) (*Keyset, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("the keyset is not base64 as `patchbay keys new` prints it")
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, errors.New("the keyset is not one that `patchbay keys new` printed")
	}
	return ofHandle(handle)
}

func ofHandle(handle *keyset.Handle) (*Keyset, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errors.New("the keyset holds no key that can seal")
	}
	k := &Keyset{handle: handle, aead: primitive, primary: handle.KeysetInfo().GetPrimaryKeyId(), macKeys: map[uint32][]byte{}}
	for _, key := range insecurecleartextkeyset.KeysetMaterial(handle).GetKey() {
		if key.GetStatus() != tink_go_proto.KeyStatusType_ENABLED {
			continue
		}
		k.ids = append(k.ids, key.GetKeyId())
		if k.macKeys[key.GetKeyId()], err = hkdf.Key(sha256.New, key.GetKeyData().GetValue(), nil, "patchbay MAC of rows", sha256.Size); err != nil {
			return nil, fmt.Errorf("derive a key: %w", err)
		}
	}
	return k, nil
}

// Text returns the keyset in the form that Parse reads. It is the secret of all secrets.
func (k *Keyset) Text() (string, error) {
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(k.handle, keyset.NewBinaryWriter(&b)); err != nil {
		return "", fmt.Errorf("write a keyset: %w", err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// Add returns the keyset with a fresh key, which opens and does not seal yet: every process must have it before one seals with it.
func (k *Keyset) Add() (*Keyset, uint32, error) {
	var id uint32
	more, err := k.change(func(m *keyset.Manager) (err error) {
		id, err = m.Add(aead.AES256GCMKeyTemplate())
		return err
	})
	return more, id, err
}

// Promote returns the keyset with one of its keys sealing. It returns ErrNoKey if it has no such key.
func (k *Keyset) Promote(id uint32) (*Keyset, error) {
	if !k.Has(id) {
		return nil, ErrNoKey
	}
	return k.change(func(m *keyset.Manager) error { return m.SetPrimary(id) })
}

// Retire returns the keyset without one of its keys. It returns ErrNoKey if it has no such key, and ErrSealing for the one that seals.
func (k *Keyset) Retire(id uint32) (*Keyset, error) {
	switch {
	case !k.Has(id):
		return nil, ErrNoKey
	case id == k.primary:
		return nil, ErrSealing
	}
	return k.change(func(m *keyset.Manager) error { return m.Delete(id) })
}

func (k *Keyset) change(do func(*keyset.Manager) error) (*Keyset, error) {
	m := keyset.NewManagerFromHandle(k.handle)
	if err := do(m); err != nil {
		return nil, fmt.Errorf("change the keyset: %w", err)
	}
	handle, err := m.Handle()
	if err != nil {
		return nil, fmt.Errorf("change the keyset: %w", err)
	}
	return ofHandle(handle)
}

// Len is how many keys the keyset uses.
func (k *Keyset) Len() int { return len(k.ids) }

// Primary is the id of the key that seals.
func (k *Keyset) Primary() uint32 { return k.primary }

// Has reports whether the keyset has the key with an id, and uses it.
func (k *Keyset) Has(id uint32) bool { return k.macKeys[id] != nil }

// IDs returns the ids of the keys that the keyset uses, the oldest first.
func (k *Keyset) IDs() []uint32 { return slices.Clone(k.ids) }

// String keeps keys out of prints.
func (*Keyset) String() string { return "•••" }

// GoString keeps %#v from printing keys.
func (*Keyset) GoString() string { return "•••" }

// Place is where a ciphertext is stored, to which it is bound.
type Place struct {
	Table, Column string
	Row           [16]byte // the row's id; zero in a table of one row
	Generation    int64    // of a grant; 0 elsewhere
	Merchant      [16]byte // of a grant or a flow; zero elsewhere
}

func (p Place) associatedData() []byte {
	b := make([]byte, 0, 80)
	b = append(append(b, p.Table...), 0)
	b = append(append(b, p.Column...), 0)
	b = appendUUID(b, p.Row)
	b = strconv.AppendInt(append(b, 0), p.Generation, 10)
	if p.Merchant != ([16]byte{}) {
		b = appendUUID(append(b, 0), p.Merchant)
	}
	return b
}

func appendUUID(b []byte, id [16]byte) []byte {
	for i, part := range [][]byte{id[0:4], id[4:6], id[6:8], id[8:10], id[10:16]} {
		if i > 0 {
			b = append(b, '-')
		}
		b = hex.AppendEncode(b, part)
	}
	return b
}

// Seal encrypts plain for a place.
func (k *Keyset) Seal(plain []byte, p Place) ([]byte, error) {
	sealed, err := k.aead.Encrypt(plain, p.associatedData())
	if err != nil {
		return nil, fmt.Errorf("seal %s.%s: %w", p.Table, p.Column, err)
	}
	return sealed, nil
}

// Open decrypts what Seal returned for the same place. It returns ErrUnknownKey, wrapped, if the keyset lacks the key that the ciphertext
// names, and ErrSealed, wrapped, for anything else.
func (k *Keyset) Open(sealed []byte, p Place) ([]byte, error) {
	plain, err := k.aead.Decrypt(sealed, p.associatedData())
	if err != nil {
		id := KeyID(sealed)
		if err = ErrSealed; id != 0 && !k.Has(id) {
			err = ErrUnknownKey
		}
		return nil, fmt.Errorf("open %s.%s sealed by key %d: %w", p.Table, p.Column, id, err)
	}
	return plain, nil
}

// KeyID is the id of the key that sealed, by the ciphertext's prefix; 0 when it has none.
func KeyID(sealed []byte) uint32 {
	if len(sealed) < 5 || sealed[0] != 1 {
		return 0
	}
	return binary.BigEndian.Uint32(sealed[1:5])
}

// Sign returns a MAC that only who has the keyset can make: the id of the primary key, big-endian, and HMAC-SHA-256 of kind and text
// with a zero byte between, under a key derived from the primary key by HKDF-SHA-256 (RFC 5869). kind holds no zero byte.
func (k *Keyset) Sign(kind, text string) []byte {
	return appendMAC(binary.BigEndian.AppendUint32(nil, k.primary), k.macKeys[k.primary], kind, text)
}

// SignByAll returns the MACs that each key of the keyset makes of kind and text, the oldest key's first: by these what was signed is looked up.
func (k *Keyset) SignByAll(kind, text string) [][]byte {
	macs := make([][]byte, len(k.ids))
	for i, id := range k.ids {
		macs[i] = appendMAC(binary.BigEndian.AppendUint32(nil, id), k.macKeys[id], kind, text)
	}
	return macs
}

// Verify returns an error unless a key of the keyset made the MAC for this kind and text: ErrUnknownKey if the MAC names a key that
// the keyset lacks, else ErrForged.
func (k *Keyset) Verify(mac []byte, kind, text string) error {
	if len(mac) != 4+sha256.Size {
		return ErrForged
	}
	key, known := k.macKeys[binary.BigEndian.Uint32(mac)]
	if !known {
		return ErrUnknownKey
	}
	if !hmac.Equal(mac, appendMAC(mac[:4:4], key, kind, text)) {
		return ErrForged
	}
	return nil
}

// MACKeyID returns the id of the key that a MAC names, 0 if it is none.
func MACKeyID(mac []byte) uint32 {
	if len(mac) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(mac)
}

func appendMAC(b, key []byte, kind, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(kind))
	h.Write([]byte{0})
	h.Write([]byte(text))
	return h.Sum(b)
}
