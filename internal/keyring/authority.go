package keyring

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/seal"
)

// SignedRows are the rows of a table that give authority: each has a MAC of what gives it, in the column mac, under a key derived from
// the keyset.
type SignedRows struct {
	table, id string
	// Text is an SQL expression over the row of the table's alias (u, i, s, l or k): what the MAC is of. The row's id is first, and what
	// may hold any sign is last.
	Text string
	live string // an SQL condition: the row gives authority now. $1 is the time
}

// The tables of signed rows.
var (
	// SignedUsers binds a user's merchant, role, lock, password, second factor and address. concat_ws leaves
	// out the second factor where there is none, and no address begins with a word and a space.
	SignedUsers = SignedRows{"users u", "u.id", `concat_ws('|', u.id, coalesce(u.merchant_id::text, ''), u.role, u.locked_at IS NOT NULL,
		encode(sha256(convert_to(u.password_hash, 'UTF8')), 'hex'), CASE WHEN u.second_factor_at IS NOT NULL THEN 'second factor' END, u.email)`, `$1::timestamptz IS NOT NULL`}
	// SignedIdentities binds who is which user: the user, the issuer and the subject.
	SignedIdentities = SignedRows{"identities i", "i.id", `concat_ws('|', i.id, i.user_id, length(i.issuer), i.issuer, i.subject)`, `$1::timestamptz IS NOT NULL`}
	// SignedSessions binds a session's user, what it lacks, and when the person last proved who they are.
	SignedSessions = SignedRows{"sessions s", "s.id_hash", `concat_ws('|', encode(s.id_hash, 'hex'), s.user_id, CASE WHEN s.half THEN 'half' END,
		(extract(epoch FROM s.proved_at) * 1000000)::bigint)`, `s.expires_at > $1`}
	// SignedLinks binds a link's kind, user, connection and end.
	SignedLinks = SignedRows{"links l", "l.id", `concat_ws('|', l.id, l.kind, encode(l.secret_hash, 'hex'), coalesce(l.user_id::text, ''), coalesce(l.connection_id::text, ''),
		(extract(epoch FROM l.expires_at) * 1000000)::bigint)`, `l.spent_at IS NULL AND l.expires_at > $1`}
	// SignedConnectLinks binds a connect link's merchant, task, end, browser and way back.
	SignedConnectLinks = SignedRows{"connect_links l", "l.id", `concat_ws('|', l.id, l.merchant_id, encode(l.secret_hash, 'hex'), coalesce(l.connection_id::text, ''),
		(extract(epoch FROM l.expires_at) * 1000000)::bigint, l.redirects, l.confirms, coalesce(encode(l.browser_hash, 'hex'), ''), l.revoked_at IS NOT NULL,
		l.provider, l.return_url)`, `l.revoked_at IS NULL AND l.expires_at > $1`}
	// SignedKeys binds an API key's merchant and scopes. A key that is revoked loses its MAC.
	SignedKeys = SignedRows{"api_keys k", "k.id", `concat_ws('|', k.id, coalesce(k.merchant_id::text, ''), encode(k.hash, 'hex'), array_to_string(k.scopes, ' '))`, `k.revoked_at IS NULL AND $1::timestamptz IS NOT NULL`}
)

// allSigned lists the tables of signed rows.
func allSigned() []SignedRows {
	return []SignedRows{SignedUsers, SignedIdentities, SignedSessions, SignedLinks, SignedConnectLinks, SignedKeys}
}

// name returns the table without its alias.
func (r SignedRows) name() string {
	name, _, _ := strings.Cut(r.table, " ")
	return name
}

// Authenticate returns nil if mac is that of a row whose Text is text. It returns seal.ErrForged if it is not, and seal.ErrUnknownKey if
// the keyset lacks the key that made it: then nothing is known of the row, and another process may serve it. Either is reported.
func (k *Keyring) Authenticate(r SignedRows, text string, mac []byte) error {
	err := k.Keyset.Verify(mac, r.table, text)
	if err != nil {
		k.refused.report(k, r, text, mac, err)
	}
	return err
}

// MAC returns the MAC of a row whose Text is text: the row is written with it.
func (k *Keyring) MAC(r SignedRows, text string) []byte { return k.Keyset.Sign(r.table, text) }

// Sign gives a row that was just written its MAC. id is its primary key.
func (k *Keyring) Sign(ctx context.Context, tx pgx.Tx, r SignedRows, id any) error {
	text, err := pg.One(ctx, tx, "read what is signed", pgx.RowTo[string], `SELECT `+r.Text+` FROM `+r.table+` WHERE `+r.id+` = $1`, id)
	if err != nil {
		return err
	}
	_, err = pg.Exec(ctx, tx, "sign a row", `UPDATE `+r.table+` SET mac = $2 WHERE `+r.id+` = $1`, id, k.MAC(r, text))
	return err
}

// Change locks a signed row, has change change it, and signs it anew. It returns an error of Authenticate, before any
// change, and pg.ErrNotFound if there is no such row.
func (k *Keyring) Change(ctx context.Context, tx pgx.Tx, r SignedRows, id any, change func() error) error {
	var text string
	var mac []byte
	err := tx.QueryRow(ctx, `SELECT `+r.Text+`, mac FROM `+r.table+` WHERE `+r.id+` = $1 FOR UPDATE`, id).Scan(&text, &mac)
	if errors.Is(err, pgx.ErrNoRows) {
		return pg.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("read what is signed: %w", err)
	}
	if err := k.Authenticate(r, text, mac); err != nil {
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return k.Sign(ctx, tx, r, id)
}

// signedAtOnce is how many rows SignAll signs by one statement.
const signedAtOnce = 50_000

// SignAll gives the rows that have no MAC one. It believes them: it is for samples.
func (k *Keyring) SignAll(ctx context.Context, tx pgx.Tx) error {
	for _, r := range allSigned() {
		where := ` WHERE mac IS NULL`
		if r.table == SignedKeys.table {
			where += ` AND revoked_at IS NULL`
		}
		for {
			var places []string // of the rows in the table
			var macs [][]byte
			var place, text string
			err := pg.Each(ctx, tx, "read what is to be signed", []any{&place, &text}, func() error {
				places, macs = append(places, place), append(macs, k.MAC(r, text))
				return nil
			}, `SELECT ctid::text, `+r.Text+` FROM `+r.table+where+` LIMIT $1 FOR UPDATE`, signedAtOnce)
			if err != nil {
				return err
			}
			if len(places) == 0 {
				break
			}
			if _, err := pg.Exec(ctx, tx, "sign rows", `UPDATE `+r.table+` SET mac = w.mac FROM (SELECT unnest($1::text[])::tid AS place, unnest($2::bytea[]) AS mac) w WHERE ctid = w.place`, places, macs); err != nil {
				return err
			}
		}
	}
	return nil
}

// SignedCount is how many rows of a table give authority, and how many of them do so no more.
type SignedCount struct {
	Table   string
	Rows    int
	Old     int // signed by an older key of the keyset
	Unknown int // by a key that the keyset lacks
	Forged  int // by none
}

// CheckSigned verifies every row that gives authority now. It reports none of them.
func (k *Keyring) CheckSigned(ctx context.Context) ([]SignedCount, error) {
	var counts []SignedCount
	for _, r := range allSigned() {
		c := SignedCount{Table: r.name()}
		var text string
		var mac []byte
		err := pg.Each(ctx, k.Pool, "verify "+c.Table, []any{&text, &mac}, func() error {
			c.Rows++
			switch err := k.Keyset.Verify(mac, r.table, text); {
			case errors.Is(err, seal.ErrUnknownKey):
				c.Unknown++
			case err != nil:
				c.Forged++
			case seal.MACKeyID(mac) != k.Keyset.Primary():
				c.Old++
			}
			return nil
		}, `SELECT `+r.Text+`, mac FROM `+r.table+` WHERE `+r.live, k.Now())
		if err != nil {
			return nil, err
		}
		counts = append(counts, c)
	}
	return counts, nil
}

// keysetWord is what checkKeyset seals.
const keysetWord = "patchbay, rows signed"

var keysetPlace = seal.Place{Table: "keyset_check", Column: "sealed"}
