// Package keyring is Postgres with a keyset: what is sealed in columns, the rows that give authority by a MAC, and the turn from one key to
// the next. It lists tables and columns by name, and knows nothing of what they are for.
package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// Keyring is the database with the keyset that opens it. Its methods are safe for concurrent use.
type Keyring struct {
	*pg.DB
	Audit   *audit.Log
	Log     *slog.Logger // takes what is wrong with rows that give authority; set before the first use, it discards at first
	Keyset  *seal.Keyset // what it sealed is opened by Unseal
	refused refusedRows
}

// Open connects and proves that the keyset opens this database. The schema must be migrated.
func Open(ctx context.Context, url string, keyset *seal.Keyset, o pg.Options) (*Keyring, error) {
	ground, err := pg.Open(ctx, url, o)
	if err != nil {
		return nil, err
	}
	k := &Keyring{DB: ground, Audit: audit.NewLog(ground), Keyset: keyset, Log: slog.New(slog.DiscardHandler)}
	err = k.checkKeyset(ctx)
	if err == nil {
		err = k.NoteKeys(ctx)
	}
	if err != nil {
		k.Close()
		return nil, err
	}
	return k, nil
}

// Ready returns an error unless the database takes writes and the keyset opens it.
func (k *Keyring) Ready(ctx context.Context) error {
	if err := k.Writable(ctx); err != nil {
		return err
	}
	return k.checkKeyset(ctx)
}

// checkKeyset opens the word that the first start sealed, and returns an error if it does not open. The first start seals it.
func (k *Keyring) checkKeyset(ctx context.Context) error {
	var sealed []byte
	err := k.Pool.QueryRow(ctx, `SELECT sealed FROM keyset_check`).Scan(&sealed)
	if errors.Is(err, pgx.ErrNoRows) {
		fresh, sealErr := k.Keyset.Seal([]byte(keysetWord), keysetPlace)
		if sealErr != nil {
			return sealErr
		}
		err = k.Pool.QueryRow(ctx, `
			INSERT INTO keyset_check (sealed) VALUES ($1)
			ON CONFLICT (id) DO UPDATE SET id = true
			RETURNING sealed`, fresh).Scan(&sealed)
	}
	if err != nil {
		return fmt.Errorf("read keyset_check: %w", err)
	}
	if _, err := k.Keyset.Open(sealed, keysetPlace); err != nil {
		return &WrongKeysetError{Key: seal.KeyID(sealed), err: err}
	}
	return nil
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

// Unseal decrypts what the keyset sealed for the same place. It returns, wrapped, seal.ErrUnknownKey if the keyset lacks the key that sealed:
// then nothing is known of it, and another process may open it; and seal.ErrSealed for anything else. The former is reported.
func (k *Keyring) Unseal(sealed []byte, p seal.Place) ([]byte, error) {
	plain, err := k.Keyset.Open(sealed, p)
	if errors.Is(err, seal.ErrUnknownKey) {
		k.refused.reportUnknownKey(k, seal.KeyID(sealed), p.Table+" "+pg.ID(p.Row).String())
	}
	return plain, err
}

const (
	settingKeySeen = "keyset.seen " // and a key's id: when a process that has the key began or served last
	keyHeldFor     = time.Hour
)

// formatTime formats times so that their texts sort as they do.
func formatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// NoteKeys notes that a process has the keyset's keys.
func (k *Keyring) NoteKeys(ctx context.Context) error {
	var names []string
	for _, id := range k.Keyset.IDs() {
		names = append(names, settingKeySeen+strconv.FormatUint(uint64(id), 10))
	}
	slices.Sort(names) // one order in all processes
	_, err := pg.Exec(ctx, k.Pool, "note keys", `INSERT INTO settings (name, value) SELECT n, $2 FROM unnest($1::text[]) WITH ORDINALITY AS w (n, i) ORDER BY i
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, names, formatTime(k.Now()))
	return err
}

// keyHeld is an SQL condition: a process with the key whose setting is $1 began or served since $2.
const keyHeld = `EXISTS (SELECT FROM settings WHERE name = $1 AND value > $2)`

// KeyHeld reports whether a process that has a key began or served within an hour.
func (k *Keyring) KeyHeld(ctx context.Context, key uint32) (bool, error) {
	return pg.One(ctx, k.Pool, "look for a key", pgx.RowTo[bool], `SELECT `+keyHeld, settingKeySeen+strconv.FormatUint(uint64(key), 10), formatTime(k.Now().Add(-keyHeldFor)))
}

// KeyNeeded reports whether this process is not to serve for want of a key that it lacks: a process that has the key served within an hour and
// can do better, most grants are sealed by keys that this one lacks, or what is by such a key is no grant. Else the key is lost, and to
// leave a few grants as they are is the best that any process can do.
func (k *Keyring) KeyNeeded(ctx context.Context, key uint32) (bool, error) {
	if k.refused.missingOutsideGrants() {
		return true, nil
	}
	return pg.One(ctx, k.Pool, "look for a key", pgx.RowTo[bool], `SELECT `+keyHeld+` OR (SELECT count(*) FILTER (WHERE unknown) * 2 > count(*) FROM (
			SELECT `+UnknownSeal("sealed", "$3")+` AS unknown FROM grants WHERE sealed IS NOT NULL LIMIT 1000) AS g)`,
		settingKeySeen+strconv.FormatUint(uint64(key), 10), formatTime(k.Now().Add(-keyHeldFor)), k.KnownKeys())
}

// Derive returns 32 bytes that follow from the keyset's first key, a purpose and a text, and of which nothing can be learnt without the
// keyset.
func (k *Keyring) Derive(purpose, text string) []byte {
	return k.Keyset.Sign("derived: "+purpose, text)[4:]
}
