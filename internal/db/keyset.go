package db

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/seal"
)

const keysetWord = "patchbay"

// checkKeyset opens the word that the first start sealed, and returns an error if it does not open. The first start seals it.
func (d *DB) checkKeyset(ctx context.Context) error {
	at := seal.Place{Table: "keyset_check", Column: "sealed"}
	var sealed []byte
	err := d.Pool.QueryRow(ctx, `SELECT sealed FROM keyset_check`).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		fresh, sealErr := d.keyset.Seal([]byte(keysetWord), at)
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
	if _, err := d.keyset.Open(sealed, at); err != nil {
		return fmt.Errorf("the keyset given does not open this database, which was sealed by key %d: set KEYSET or KEYSET_FILE to the keyset it was started with", seal.KeyID(sealed))
	}
	return nil
}
