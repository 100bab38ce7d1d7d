package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
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

const (
	settingKeySeen = "keyset.seen " // and a key's id: when a process that has the key began or served last
	keyHeldFor     = time.Hour
)

// seen writes a time so that texts compare as times do.
func seen(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// seeKeys notes that a process has the keyset's keys.
func (d *DB) seeKeys(ctx context.Context) error {
	var names []string
	for _, id := range d.keyset.IDs() {
		names = append(names, settingKeySeen+strconv.FormatUint(uint64(id), 10))
	}
	slices.Sort(names) // one order in all processes
	_, err := pg.Exec(ctx, d.Pool, "note keys", `INSERT INTO settings (name, value) SELECT n, $2 FROM unnest($1::text[]) WITH ORDINALITY AS w (n, i) ORDER BY i
		ON CONFLICT (name) DO UPDATE SET value = excluded.value`, names, seen(d.Now()))
	return err
}

// keyHeld is an SQL condition: a process with the key whose setting is $1 began or served since $2.
const keyHeld = `EXISTS (SELECT FROM settings WHERE name = $1 AND value > $2)`

// KeyNeeded reports whether this process is not to serve for want of a key that it lacks: a process that has the key served within an hour and
// can do better, most grants are sealed by keys that this one lacks, or what is by such a key is no grant. Else the key is lost, and to
// leave a few grants as they are is the best that any process can do.
func (d *DB) KeyNeeded(ctx context.Context, key uint32) (bool, error) {
	if d.refused.elsewhere() {
		return true, nil
	}
	return pg.One(ctx, d.Pool, "look for a key", pgx.RowTo[bool], `SELECT `+keyHeld+` OR (SELECT count(*) FILTER (WHERE unknown) * 2 > count(*) FROM (
			SELECT `+UnknownSeal("sealed", "$3")+` AS unknown FROM grants WHERE sealed IS NOT NULL LIMIT 1000) AS g)`,
		settingKeySeen+strconv.FormatUint(uint64(key), 10), seen(d.Now().Add(-keyHeldFor)), d.KnownKeys())
}

// ErrKeyHeld is returned for a key that is to be given up although a process has it.
var ErrKeyHeld = errors.New("a process that has this key served within the last hour")

// GiveUpKey gives up the grants that a lost key has sealed, and returns how many: their merchants are asked to reconnect. It returns ErrKeyHeld
// if the keyset has the key, or a process that has it served within an hour.
func (d *DB) GiveUpKey(ctx context.Context, key uint32) (all int64, err error) {
	held, err := pg.One(ctx, d.Pool, "look for a key", pgx.RowTo[bool], `SELECT `+keyHeld, settingKeySeen+strconv.FormatUint(uint64(key), 10), seen(d.Now().Add(-keyHeldFor)))
	if err == nil && (held || d.HasKey(key)) {
		err = ErrKeyHeld
	}
	for n := 1; err == nil && n > 0; all += int64(n) {
		err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
			n, err = d.giveUp(ctx, tx, prefixes([]uint32{key})[0])
			return err
		})
	}
	return all, err
}

func (d *DB) giveUp(ctx context.Context, tx pgx.Tx, key []byte) (int, error) {
	lost, err := pg.Collect(ctx, tx, "read grants", scanConnection, `SELECT `+connectionColumns+` FROM connections c JOIN grants g ON g.connection_id = c.id
		WHERE substring(g.sealed FROM 1 FOR 1) = '\x01' AND substring(g.sealed FROM 2 FOR 4) = $1 ORDER BY c.id LIMIT 200 FOR UPDATE`, key)
	if err != nil || len(lost) == 0 {
		return 0, err
	}
	ids := make([]pg.ID, len(lost))
	b := &pgx.Batch{}
	for i, c := range lost {
		ids[i] = c.ID
		d.Audit.Queue(b, audit.Event{
			Kind: status.KindOfFailure(status.Rejected), Actor: audit.System, MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider, Outcome: status.Rejected,
			Code: string(status.ProblemSealed), Note: status.NoteSealed,
		})
	}
	b.Queue(`UPDATE grants SET sealed = NULL, late_grant = NULL, late_generation = 0, lease_id = NULL, leased_until = NULL, refresh_at = NULL, attempts = attempts + 1,
		last_outcome = $2, last_code = $3 WHERE connection_id = ANY ($1)`, ids, status.Rejected, status.ProblemSealed)
	b.Queue(`UPDATE connections SET problem = $2, problem_since = $3, failing_since = coalesce(failing_since, $3) WHERE id = ANY ($1) AND disconnected_at IS NULL`, ids, status.ProblemInterrupted, d.Now())
	return len(lost), tx.SendBatch(ctx, b).Close()
}

// Derive returns 32 bytes that follow from the keyset's first key, a purpose and a text, and from which nobody without the keyset can
// learn anything.
func (d *DB) Derive(purpose, text string) []byte { return d.keyset.Sign("derived: "+purpose, text)[4:] }
