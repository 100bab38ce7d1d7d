package db

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"patchbay/internal/pg"
)

// Keyset seals and opens secrets (AES-256-GCM by Tink). Its first key seals, every key opens.
type Keyset struct {
	aead    tink.AEAD
	primary uint32
	keys    int
}

// NewKeyset makes a fresh keyset in the form that KEYSET takes: Tink's binary keyset in base64.
func NewKeyset() (string, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return "", fmt.Errorf("make a keyset: %w", err)
	}
	var b bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewBinaryWriter(&b)); err != nil {
		return "", fmt.Errorf("write a keyset: %w", err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// ParseKeyset reads what NewKeyset made. Its errors never quote the text.
func ParseKeyset(text string) (*Keyset, error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil {
		return nil, errors.New("the keyset is not base64 as `patchbay keys new` prints it")
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewBinaryReader(bytes.NewReader(raw)))
	if err != nil {
		return nil, errors.New("the keyset is not one that `patchbay keys new` printed")
	}
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errors.New("the keyset holds no key that can seal")
	}
	info := handle.KeysetInfo()
	return &Keyset{aead: primitive, primary: info.GetPrimaryKeyId(), keys: len(info.GetKeyInfo())}, nil
}

// String keeps keys out of prints.
func (*Keyset) String() string { return "•••" }

// GoString keeps %#v from printing keys.
func (*Keyset) GoString() string { return "•••" }

// place is where a ciphertext belongs. It is bound to it: moved to another row or column, or put back from an older
// generation, it does not open.
type place struct {
	table, column string
	row           pg.ID
	generation    int64 // grants only; 0 elsewhere
}

func (p place) bytes() []byte {
	return []byte(p.table + "\x00" + p.column + "\x00" + p.row.String() + "\x00" + strconv.FormatInt(p.generation, 10))
}

func (k *Keyset) seal(plain []byte, p place) ([]byte, error) {
	sealed, err := k.aead.Encrypt(plain, p.bytes())
	if err != nil {
		return nil, fmt.Errorf("seal %s.%s: %w", p.table, p.column, err)
	}
	return sealed, nil
}

func (k *Keyset) open(sealed []byte, p place) ([]byte, error) {
	plain, err := k.aead.Decrypt(sealed, p.bytes())
	if err != nil {
		return nil, fmt.Errorf("open %s.%s sealed by key %d: %w", p.table, p.column, keyID(sealed), ErrSealed)
	}
	return plain, nil
}

// ErrSealed: a ciphertext does not open here. It belongs to another keyset, row, column or generation.
var ErrSealed = errors.New("sealed by another key or for another place")

// keyID is the id of the key that sealed, from Tink's prefix; 0 when it is not Tink's.
func keyID(sealed []byte) uint32 {
	if len(sealed) < 5 || sealed[0] != 1 {
		return 0
	}
	return binary.BigEndian.Uint32(sealed[1:5])
}

const keysetWord = "patchbay"

// checkKeyset opens the word that the first start sealed; the first start seals it.
func (d *DB) checkKeyset(ctx context.Context) error {
	at := place{table: "keyset_check", column: "sealed"}
	var sealed []byte
	err := d.Pool.QueryRow(ctx, `SELECT sealed FROM keyset_check`).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		fresh, sealErr := d.keyset.seal([]byte(keysetWord), at)
		if sealErr != nil {
			return sealErr
		}
		err = d.Pool.QueryRow(ctx, `
			INSERT INTO keyset_check (sealed) VALUES ($1)
			ON CONFLICT (id) DO UPDATE SET id = true
			RETURNING sealed`, fresh).Scan(&sealed)
	}
	if err != nil {
		return fmt.Errorf("read keyset_check: %w", err)
	}
	if _, err := d.keyset.open(sealed, at); err != nil {
		return fmt.Errorf("the keyset given does not open this database, which was sealed by key %d: set KEYSET or KEYSET_FILE to the keyset it was started with", keyID(sealed))
	}
	return nil
}
