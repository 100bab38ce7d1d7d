package keyring

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// sealedColumn is a column of ciphertexts, with what their place is made of, which is SQL over the rows of from.
type sealedColumn struct {
	table, column, id    string // id is the primary key
	generation, merchant string
	from                 string
	replaceable          string // a condition: the value may be replaced by another of the same content
}

// sealedColumns lists every column of ciphertexts but that of keyset_check, which is one row.
func sealedColumns() []sealedColumn {
	const none = "NULL::uuid"
	return []sealedColumn{
		{"grants", "sealed", "connection_id", "r.generation", "c.merchant_id", "grants r JOIN connections c ON c.id = r.connection_id", "true"},
		// An attempt notes by its bytes which late grant it has tried.
		{"grants", "late_grant", "connection_id", "r.late_generation", "c.merchant_id", "grants r JOIN connections c ON c.id = r.connection_id", "r.lease_id IS NULL"},
		{"flows", "sealed", "id", "0::bigint", "r.merchant_id", "flows r", "true"},
		{"outbox", "sealed", "id", "0::bigint", none, "outbox r", "true"},
		{"webhook_endpoints", "sealed", "id", "0::bigint", none, "webhook_endpoints r", "true"},
		{"erasure_revocations", "sealed", "id", "0::bigint", "r.merchant_id", "erasure_revocations r", "true"},
		{"second_factors", "sealed", "user_id", "0::bigint", none, "second_factors r", "true"},
	}
}

func (c sealedColumn) place(row pg.ID, generation int64, merchant pg.ID) seal.Place {
	return seal.Place{Table: c.table, Column: c.column, Row: row, Generation: generation, Merchant: merchant}
}

// resealBatch is how many rows one statement seals or signs anew.
const resealBatch = 200

// OlderKeys returns the keys of the keyset that came before the one that seals: what they sealed is to be sealed anew. A key that comes after
// it was added and does not seal yet, here: another process may have it seal already.
func (k *Keyring) OlderKeys() []uint32 {
	ids := k.Keyset.IDs()
	return ids[:max(0, slices.Index(ids, k.Keyset.Primary()))]
}

// OtherKeys returns all keys of the keyset but the one that seals.
func (k *Keyring) OtherKeys() []uint32 {
	return slices.DeleteFunc(k.Keyset.IDs(), func(id uint32) bool { return id == k.Keyset.Primary() })
}

// Reseal seals and signs anew, by the key that seals, what other keys of the keyset have sealed and signed. It works in small batches, with a pause after
// each, replaces only what is still as it was read, and waits for no lock: what others hold at the time is left to the next pass, as is what does not
// open. progress is called with how many rows each batch has done; it may be nil. Reseal returns how many it did, also with an error.
func (k *Keyring) Reseal(ctx context.Context, keys []uint32, pause time.Duration, progress func(table string, rows int)) (done int, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	after := func(table string, rows int) error {
		if done += rows; rows > 0 && progress != nil {
			progress(table, rows)
		}
		select {
		case <-time.After(pause):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	for _, c := range sealedColumns() {
		if err := k.resealColumn(ctx, c, keys, after); err != nil {
			return done, err
		}
	}
	for _, r := range allSigned() {
		if err := k.resign(ctx, r, keys, after); err != nil {
			return done, err
		}
	}
	// At last, since it keeps a process without the key from starting.
	return done, k.resealCheck(ctx, keys, after)
}

func (k *Keyring) resealColumn(ctx context.Context, c sealedColumn, keys []uint32, after func(table string, rows int) error) error {
	type row struct {
		ID         pg.ID
		Generation int64
		Merchant   pg.ID
		Sealed     []byte
	}
	var last pg.ID
	for {
		rows, err := pg.Collect(ctx, k.Pool, "read what is to be sealed anew", pgx.RowToStructByPos[row], `
			SELECT r.`+c.id+`, `+c.generation+`, `+c.merchant+`, r.`+c.column+` FROM `+c.from+`
			WHERE `+SealedBy("r."+c.column, "$1")+` AND (r.`+c.id+` > $2) IS NOT FALSE AND `+c.replaceable+`
			ORDER BY r.`+c.id+` LIMIT $3`, Prefixes(keys), last, resealBatch)
		if err != nil || len(rows) == 0 {
			return err
		}
		last = rows[len(rows)-1].ID
		var ids []pg.ID
		var before, now [][]byte
		for _, r := range rows {
			at := c.place(r.ID, r.Generation, r.Merchant)
			plain, err := k.Keyset.Open(r.Sealed, at)
			if err != nil {
				continue
			}
			sealed, err := k.Keyset.Seal(plain, at)
			if err != nil {
				return err
			}
			ids, before, now = append(ids, r.ID), append(before, r.Sealed), append(now, sealed)
		}
		n, err := pg.Exec(ctx, k.Pool, "seal anew", `
			WITH free AS MATERIALIZED (SELECT `+c.id+` AS id FROM `+c.table+` r WHERE `+c.id+` = ANY ($1) AND `+c.replaceable+` FOR UPDATE SKIP LOCKED)
			UPDATE `+c.table+` r SET `+c.column+` = w.now
			FROM (SELECT unnest($1::uuid[]) AS id, unnest($2::bytea[]) AS before, unnest($3::bytea[]) AS now) w JOIN free USING (id)
			WHERE r.`+c.id+` = w.id AND r.`+c.column+` = w.before`, ids, before, now)
		if err != nil {
			return err
		}
		if err := after(c.table, int(n)); err != nil || len(rows) < resealBatch {
			return err
		}
	}
}

// resign signs rows anew. Those whose MAC is not valid stay as they are.
func (k *Keyring) resign(ctx context.Context, r SignedRows, keys []uint32, after func(table string, rows int) error) error {
	var last any // id of the last row that was looked at
	for {
		looked, signed := 0, 0
		err := k.Tx(ctx, func(tx pgx.Tx) error {
			var b pgx.Batch
			var id any
			var text string
			var mac []byte
			err := pg.Each(ctx, tx, "read what is to be signed", []any{&id, &text, &mac}, func() error {
				looked, last = looked+1, id
				if k.Authenticate(r, text, mac) == nil {
					b.Queue(`UPDATE `+r.table+` SET mac = $2 WHERE `+r.id+` = $1`, id, k.MAC(r, text))
				}
				return nil
			}, `SELECT `+r.id+`, `+r.Text+`, mac FROM `+r.table+`
				WHERE substring(mac FROM 1 FOR 4) = ANY ($1::bytea[]) AND (`+r.id+` > $2) IS NOT FALSE ORDER BY `+r.id+` LIMIT $3 FOR UPDATE SKIP LOCKED`, Prefixes(keys), last, resealBatch)
			if err != nil {
				return err
			}
			if err := tx.SendBatch(ctx, &b).Close(); err != nil {
				return fmt.Errorf("sign rows: %w", err)
			}
			signed = b.Len()
			return nil
		})
		if err != nil || looked == 0 {
			return err
		}
		if err := after(r.name(), signed); err != nil || looked < resealBatch {
			return err
		}
	}
}

func (k *Keyring) resealCheck(ctx context.Context, keys []uint32, after func(table string, rows int) error) error {
	before, err := pg.One(ctx, k.Pool, "read keyset_check", pgx.RowTo[[]byte], `SELECT sealed FROM keyset_check`)
	if err != nil || !slices.Contains(keys, seal.KeyID(before)) {
		return err
	}
	word, err := k.Keyset.Open(before, keysetPlace)
	if err != nil {
		return err
	}
	now, err := k.Keyset.Seal(word, keysetPlace)
	if err != nil {
		return err
	}
	n, err := pg.Exec(ctx, k.Pool, "seal anew", `UPDATE keyset_check SET sealed = $2 WHERE sealed = $1`, before, now)
	if err != nil {
		return err
	}
	return after(keysetPlace.Table, int(n))
}

// Prefixes returns how the MACs of keys and, after their first byte, their ciphertexts begin.
func Prefixes(keys []uint32) [][]byte {
	all := make([][]byte, len(keys))
	for i, id := range keys {
		all[i] = binary.BigEndian.AppendUint32(nil, id)
	}
	return all
}

// KeyUse is how much of a table a key has sealed or signed.
type KeyUse struct {
	Key   uint32 `json:"key"`
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
}

// KeyUses counts what each key has sealed and signed, whether the keyset has it or not. It reads whole tables.
func (k *Keyring) KeyUses(ctx context.Context) ([]KeyUse, error) {
	sql := ""
	count := func(table, column string, from int, where string) {
		if sql != "" {
			sql += ` UNION ALL `
		}
		sql += fmt.Sprintf(`SELECT substring(%s FROM %d FOR 4) AS key, '%s' AS in_table, count(*) AS n FROM %s WHERE %s GROUP BY 1`, column, from, table, table, where)
	}
	for _, c := range append(sealedColumns(), sealedColumn{table: keysetPlace.Table, column: keysetPlace.Column}) {
		count(c.table, c.column, 2, `substring(`+c.column+` FROM 1 FOR 1) = '\x01' AND length(`+c.column+`) >= 5`)
	}
	for _, r := range allSigned() {
		count(r.name(), "mac", 1, `length(mac) >= 4`)
	}
	return pg.Collect(ctx, k.Pool, "count what keys have sealed", func(row pgx.CollectableRow) (KeyUse, error) {
		var u KeyUse
		var key []byte
		err := row.Scan(&key, &u.Table, &u.Rows)
		if err == nil {
			u.Key = binary.BigEndian.Uint32(key)
		}
		return u, err
	}, `SELECT key, in_table, sum(n)::bigint FROM (`+sql+`) AS used GROUP BY key, in_table ORDER BY key, in_table`)
}

// RowsLostWith counts, by table, what would be lost with a key of the keyset: ciphertexts that it opens and MACs that it verifies. dead counts
// those that name the key and do not open or verify.
func (k *Keyring) RowsLostWith(ctx context.Context, key uint32) (held []KeyUse, dead int64, err error) {
	uses, err := k.KeyUses(ctx)
	if err != nil {
		return nil, 0, err
	}
	tables := map[string]int64{}
	total := int64(0)
	for _, u := range uses {
		if u.Key == key {
			tables[u.Table] = u.Rows
			total += u.Rows
		}
	}
	const few = 10_000 // after Reseal only what does not open is left
	if total > 0 && total <= few {
		if tables, err = k.countOpenable(ctx, key); err != nil {
			return nil, 0, err
		}
	}
	for _, u := range uses {
		if u.Key != key {
			continue
		}
		dead += u.Rows - tables[u.Table]
		if u.Rows = tables[u.Table]; u.Rows > 0 {
			held = append(held, u)
		}
	}
	return held, max(0, dead), nil
}

// countOpenable counts, by table, the ciphertexts that a key opens and the MACs that it verifies.
func (k *Keyring) countOpenable(ctx context.Context, key uint32) (map[string]int64, error) {
	counts := map[string]int64{}
	for _, c := range sealedColumns() {
		var id, merchant pg.ID
		var generation int64
		var sealed []byte
		err := pg.Each(ctx, k.Pool, "open "+c.table, []any{&id, &generation, &merchant, &sealed}, func() error {
			if _, err := k.Keyset.Open(sealed, c.place(id, generation, merchant)); err == nil {
				counts[c.table]++
			}
			return nil
		}, `SELECT r.`+c.id+`, `+c.generation+`, `+c.merchant+`, r.`+c.column+` FROM `+c.from+`
			WHERE `+SealedBy("r."+c.column, "$1")+``, Prefixes([]uint32{key}))
		if err != nil {
			return nil, err
		}
	}
	for _, r := range allSigned() {
		var text string
		var mac []byte
		err := pg.Each(ctx, k.Pool, "verify "+r.name(), []any{&text, &mac}, func() error {
			if k.Keyset.Verify(mac, r.table, text) == nil {
				counts[r.name()]++
			}
			return nil
		}, `SELECT `+r.Text+`, mac FROM `+r.table+` WHERE substring(mac FROM 1 FOR 4) = ANY ($1::bytea[])`, Prefixes([]uint32{key}))
		if err != nil {
			return nil, err
		}
	}
	word, err := pg.One(ctx, k.Pool, "read keyset_check", pgx.RowTo[[]byte], `SELECT sealed FROM keyset_check`)
	if err == nil && seal.KeyID(word) == key {
		counts[keysetPlace.Table]++
	}
	return counts, err
}

const settingKeyUses = "seals.keys"

// keyCount is what ResealOlder stores.
type keyCount struct {
	At      time.Time `json:"at"`
	Primary uint32    `json:"primary"` // of the process that counted
	Uses    []KeyUse  `json:"uses"`
}

// recountKeys is how long a count that found nothing older stands.
const recountKeys = time.Hour

// ResealOlder seals anew what older keys have sealed, for about as long as it may take, and stores what is left for CountOldSeals. It counts again once an hour when
// nothing was left, and is done at once with a keyset of one key.
func (k *Keyring) ResealOlder(ctx context.Context, budget, pause time.Duration) (done int, left int64, err error) {
	if k.Keyset.Len() < 2 {
		_, err := pg.Exec(ctx, k.Pool, "count what keys have sealed", `DELETE FROM settings WHERE name = $1`, settingKeyUses)
		return 0, 0, err
	}
	counted, err := k.keyCount(ctx)
	if err != nil {
		return 0, 0, err
	}
	older := k.OlderKeys()
	if counted.Primary == k.Keyset.Primary() && k.Now().Sub(counted.At) < recountKeys && RowsOf(counted.Uses, older) == 0 {
		return 0, 0, nil
	}
	working, cancel := context.WithTimeout(ctx, budget)
	defer cancel()
	if done, err = k.Reseal(working, older, pause, nil); err != nil && (ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded)) {
		return done, 0, err
	}
	uses, err := k.KeyUses(ctx)
	if err != nil {
		return done, 0, err
	}
	count, err := json.Marshal(keyCount{At: k.Now(), Primary: k.Keyset.Primary(), Uses: uses})
	if err != nil {
		return done, 0, fmt.Errorf("encode a count: %w", err)
	}
	_, err = pg.Exec(ctx, k.Pool, "count what keys have sealed", `INSERT INTO settings (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value`,
		settingKeyUses, string(count))
	return done, RowsOf(uses, older), err
}

// RowsOf returns how many rows some keys have sealed or signed.
func RowsOf(uses []KeyUse, keys []uint32) (n int64) {
	for _, u := range uses {
		if slices.Contains(keys, u.Key) {
			n += u.Rows
		}
	}
	return n
}

func (k *Keyring) keyCount(ctx context.Context) (keyCount, error) {
	var c keyCount
	text, err := pg.One(ctx, k.Pool, "read what keys have sealed", pgx.RowTo[string], `SELECT value FROM settings WHERE name = $1`, settingKeyUses)
	if err != nil {
		if errors.Is(err, pg.ErrNotFound) {
			err = nil
		}
		return c, err
	}
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return keyCount{}, nil // it is counted again
	}
	return c, nil
}

// CountOldSeals returns how many rows older keys of the keyset have sealed or signed, as ResealOlder has counted them last.
func (k *Keyring) CountOldSeals(ctx context.Context) (int64, error) {
	counted, err := k.keyCount(ctx)
	return RowsOf(counted.Uses, k.OlderKeys()), err
}
