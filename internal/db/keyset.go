package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// checkKeyset opens the word that the first start sealed, and returns an error if it does not open. The first start seals it.
// signed is whether the word says that all rows that give authority are signed.
func (d *DB) checkKeyset(ctx context.Context) (signed bool, err error) {
	var sealed []byte
	err = d.Pool.QueryRow(ctx, `SELECT sealed FROM keyset_check`).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		fresh, sealErr := d.keyset.Seal([]byte(signedWord), keysetPlace)
		if sealErr != nil {
			return false, sealErr
		}
		err = d.Pool.QueryRow(ctx, `
			INSERT INTO keyset_check (sealed) VALUES ($1)
			ON CONFLICT (id) DO UPDATE SET id = true
			RETURNING sealed`, fresh).Scan(&sealed)
	}
	if err != nil {
		return false, fmt.Errorf("read keyset_check: %w", err)
	}
	word, err := d.keyset.Open(sealed, keysetPlace)
	if err != nil {
		return false, &WrongKeysetError{Key: seal.KeyID(sealed), err: err}
	}
	return string(word) == signedWord, nil
}

// WrongKeysetError says that the keyset does not open the database. It is a seal.ErrUnknownKey if the keyset lacks the key that seals there.
type WrongKeysetError struct {
	Key uint32 // which sealed
	err error
}

func (e *WrongKeysetError) Error() string {
	return fmt.Sprintf("the keyset given does not open this database, which is sealed by key %d: set KEYSET or KEYSET_FILE to the keyset that its other processes have", e.Key)
}

// Unwrap returns the error of the seal.
func (e *WrongKeysetError) Unwrap() error { return e.err }

// Seal encrypts what another room keeps in a table of its own.
func (d *DB) Seal(plain []byte, p seal.Place) ([]byte, error) { return d.keyset.Seal(plain, p) }

// Unseal decrypts what Seal returned for the same place. It returns, wrapped, seal.ErrUnknownKey if the keyset lacks the key that sealed:
// then nothing is known of it, and another process may open it; and seal.ErrSealed for anything else. The former is reported.
func (d *DB) Unseal(sealed []byte, p seal.Place) ([]byte, error) {
	plain, err := d.keyset.Open(sealed, p)
	if errors.Is(err, seal.ErrUnknownKey) {
		d.refused.lack(d, seal.KeyID(sealed), p.Table+" "+pg.ID(p.Row).String())
	}
	return plain, err
}

// Derive returns 32 bytes that follow from the keyset's first key, a purpose and a text, and from which nobody without the keyset can
// learn anything.
func (d *DB) Derive(purpose, text string) []byte { return d.keyset.Sign("derived: "+purpose, text)[4:] }
