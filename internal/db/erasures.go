package db

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/keyring"
	"patchbay/internal/pg"
	"patchbay/internal/seal"
	"patchbay/internal/status"
	"patchbay/internal/text"
)

// Erasure is the receipt of a merchant that was erased. It holds ids and numbers only.
type Erasure struct {
	MerchantID   pg.ID
	At           time.Time
	Actor        audit.Role
	ActorID      pg.ID
	Counts       ErasedCounts
	Emptied      int64                       // events whose free text was emptied
	EmptiedAt    time.Time                   // when the last of them was; zero before
	Revoked      map[status.Revocation]int64 // how providers took the end of access, by outcome
	Pending      int64                       // providers that are still to be asked, or asked again
	PendingUntil time.Time                   // when that is given up; zero if none is pending
	Webhooks     bool                        // the platform is notified by webhooks, which hold its id
}

// Complete reports whether nothing is left to be done.
func (e Erasure) Complete() bool { return !e.EmptiedAt.IsZero() && e.Pending == 0 }

// ErasedCounts are how many rows an erasure deleted.
type ErasedCounts struct {
	Connections  int64 `json:"connections"`
	Flows        int64 `json:"flows"`
	ConnectLinks int64 `json:"connect_links"`
	Users        int64 `json:"users"`
	Sessions     int64 `json:"sessions"`
	Links        int64 `json:"links"` // invitations, and links to choose a password or to reconnect
	APIKeys      int64 `json:"api_keys"`
	Mail         int64 `json:"mail"` // in the outbox, or still to be sent
}

const (
	retryRevocationFor = 24 * time.Hour // for how long a revocation is retried
	// emptyAgainAfter is how long after an erasure the events are emptied once more: transactions that were under way have ended by then.
	emptyAgainAfter = 2 * time.Minute
	subjectBatch    = 100
	eventBatch      = 5000
	nameBatch       = 500
)

// externalHashKind is the kind of the MACs by which a receipt is found by the platform's own id.
const externalHashKind = "erasures external_hash"

// subject is what is read of a merchant before it is erased.
type subject struct {
	merchant    Merchant
	connections []Connection
	revocations []erasureRevocation
	users, keys []pg.ID
	links       []pg.ID // connect links
	emails      []string
	names       []string // what its people would call it, them and its accounts, or called them before
}

// erasureRevocation is the sealed part of a row of erasure_revocations.
type erasureRevocation struct {
	Connection  pg.ID            `json:"-"`
	Provider    string           `json:"-"`
	Environment string           `json:"-"`
	Account     string           `json:"account"`
	Grant       connectors.Grant `json:"grant"`
}

func erasureRevocationPlace(id, merchant pg.ID) seal.Place {
	return seal.Place{Table: "erasure_revocations", Column: "sealed", Row: id, Merchant: merchant}
}

// EraseMerchant disconnects everything of a merchant and deletes its rows, its people, keys, links and mail, in one transaction that
// also writes the event merchant.erased, and with it the webhook. Providers are asked to end access afterwards (DueRevocations), and events are
// emptied by EmptyEvents. Whatever is under way for the merchant finds no row to save to. It returns ErrNotFound if there is no such
// merchant, and seal.ErrUnknownKey if the keyset lacks the key of a grant, which another process may have.
func (d *DB) EraseMerchant(ctx context.Context, by audit.Actor, merchant pg.ID) error {
	return d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		s, err := d.readSubject(ctx, tx, merchant)
		if err != nil {
			return err
		}
		if err := d.announceErasure(ctx, tx, by, s); err != nil {
			return err
		}
		return d.deleteSubject(ctx, tx, by, s)
	})
}

// readSubject locks everything of a merchant, in the order in which connecting and disconnecting do: attempts, connections with their
// grants, the merchant. With the last, nothing can be added: each of those rows refers to it.
func (d *DB) readSubject(ctx context.Context, tx pgx.Tx, merchant pg.ID) (s subject, err error) {
	var flows []Flow
	for _, again := range []bool{false, true} { // what came before the merchant was locked
		flows, err = pg.Collect(ctx, tx, "lock attempts", scanFlow, `SELECT `+flowColumns+` FROM flows f WHERE f.merchant_id = $1 AND f.sealed IS NOT NULL ORDER BY f.id FOR UPDATE`, merchant)
		if err != nil {
			return s, err
		}
		s.connections, err = pg.Collect(ctx, tx, "lock connections", scanConnection, `SELECT `+connectionColumns+` FROM connections c WHERE c.merchant_id = $1 ORDER BY c.id FOR UPDATE`, merchant)
		if err != nil {
			return s, err
		}
		if again {
			break
		}
		s.merchant, err = pg.One(ctx, tx, "lock merchant", scanMerchant, `SELECT `+merchantColumns+` FROM merchants m WHERE m.id = $1 FOR UPDATE`, merchant)
		if err != nil {
			return s, err
		}
	}
	s.addNames(s.merchant.Name, s.merchant.ExternalID)
	for _, c := range s.connections {
		s.addNames(c.Account.Name, c.Nickname)
		if c.Account.ID != c.ID.String() {
			s.addNames(c.Account.ID)
		}
		if !c.DisconnectedAt.IsZero() {
			continue
		}
		r, err := d.revocationOf(ctx, tx, c)
		if err != nil {
			return s, err
		}
		s.revocations = append(s.revocations, erasureRevocation{Connection: c.ID, Provider: c.Provider, Environment: c.Environment, Account: c.Account.ID, Grant: r.Grant})
	}
	for _, f := range flows {
		opened, err := d.openFlow(f)
		if err != nil && !errors.Is(err, seal.ErrSealed) {
			return s, err
		}
		if opened.Grant != nil {
			s.revocations = append(s.revocations, erasureRevocation{Provider: f.Provider, Environment: f.Environment, Account: opened.Grant.Account.ID, Grant: *opened.Grant})
		}
	}
	return s, s.readPeople(ctx, tx)
}

func (s *subject) readPeople(ctx context.Context, tx pgx.Tx) error {
	var id pg.ID
	var name, email string
	err := pg.Each(ctx, tx, "lock users", []any{&id, &email, &name}, func() error {
		s.users, s.emails = append(s.users, id), append(s.emails, email)
		s.addNames(email, name)
		return nil
	}, `SELECT id, email, name FROM users WHERE merchant_id = $1 FOR UPDATE`, s.merchant.ID)
	if err != nil {
		return err
	}
	err = pg.Each(ctx, tx, "read API keys", []any{&id, &name}, func() error {
		s.keys = append(s.keys, id)
		s.addNames(name)
		return nil
	}, `SELECT id, name FROM api_keys WHERE merchant_id = $1`, s.merchant.ID)
	if err != nil {
		return err
	}
	// What accounts were called before is known of attempts.
	former, err := pg.Collect(ctx, tx, "read attempts", pgx.RowTo[string], `SELECT account_name FROM flows WHERE merchant_id = $1 UNION SELECT account_id FROM flows WHERE merchant_id = $1`, s.merchant.ID)
	if err != nil {
		return err
	}
	s.addNames(former...)
	var by string
	return pg.Each(ctx, tx, "read connect links", []any{&id, &name, &by}, func() error {
		s.links = append(s.links, id)
		s.addNames(name, by)
		return nil
	}, `SELECT id, user_name, user_external_id FROM connect_links WHERE merchant_id = $1`, s.merchant.ID)
}

// addNames notes names as people write them, and as the addresses of lists have them. Shorter ones than three letters would be found in many words.
func (s *subject) addNames(names ...string) {
	for _, name := range names {
		if text.Length(name) < 3 {
			continue
		}
		s.names = append(s.names, name)
		if escaped := url.QueryEscape(name); escaped != name {
			s.names = append(s.names, escaped)
		}
	}
}

// announceErasure writes the events, and with them the webhooks, while the merchant's rows exist.
func (d *DB) announceErasure(ctx context.Context, tx pgx.Tx, by audit.Actor, s subject) error {
	now := d.Now()
	b := &pgx.Batch{}
	b.Queue(`UPDATE connections SET disconnected_at = $2, failing_since = NULL WHERE merchant_id = $1 AND disconnected_at IS NULL`, s.merchant.ID, now)
	for _, c := range s.connections {
		if c.DisconnectedAt.IsZero() {
			d.Audit.Queue(b, audit.Event{At: now, Kind: status.ConnectionDisconnected, MerchantID: c.MerchantID, ConnectionID: c.ID, Provider: c.Provider, Actor: by})
		}
	}
	d.Audit.Queue(b, audit.Event{At: now, Kind: status.MerchantErased, MerchantID: s.merchant.ID, Actor: by})
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("announce an erasure: %w", err)
	}
	return nil
}

// deleteSubject deletes the rows, and writes the receipt.
func (d *DB) deleteSubject(ctx context.Context, tx pgx.Tx, by audit.Actor, s subject) error {
	id := s.merchant.ID
	connections := make([]pg.ID, len(s.connections))
	for i, c := range s.connections {
		connections[i] = c.ID
	}
	var counts ErasedCounts
	for _, one := range []struct {
		count *int64
		sql   string
		args  []any
	}{
		// What is being sent at this moment is sent, and has no recipient the next time.
		{&counts.Mail, `DELETE FROM river_job WHERE kind = 'mail' AND (args -> 'mail' ->> 'user')::uuid = ANY ($1)`, []any{s.users}},
		{nil, `DELETE FROM river_job WHERE kind = 'revoke' AND (args ->> 'connection')::uuid = ANY ($1)`, []any{connections}},
		{&counts.Mail, `DELETE FROM outbox WHERE user_id = ANY ($1) OR lower(recipient) = ANY (SELECT lower(e) FROM unnest($2::text[]) AS e)`, []any{s.users, s.emails}},
		{&counts.Flows, `DELETE FROM flows WHERE merchant_id = $1`, []any{id}},
		{&counts.ConnectLinks, `DELETE FROM connect_links WHERE merchant_id = $1`, []any{id}},
		{&counts.Links, `DELETE FROM links WHERE user_id = ANY ($1) OR connection_id = ANY ($2)`, []any{s.users, connections}},
		{nil, `UPDATE links SET created_by = NULL WHERE created_by = ANY ($1)`, []any{s.users}},
		{&counts.Sessions, `DELETE FROM sessions WHERE user_id = ANY ($1)`, []any{s.users}},
		{nil, `DELETE FROM second_factors WHERE user_id = ANY ($1)`, []any{s.users}},
		{nil, `DELETE FROM passkey_challenges WHERE user_id = ANY ($1)`, []any{s.users}},
		{nil, `DELETE FROM warnings WHERE user_id = ANY ($1)`, []any{s.users}},
		{&counts.APIKeys, `DELETE FROM api_keys WHERE merchant_id = $1`, []any{id}},
		{&counts.Connections, `DELETE FROM connections WHERE merchant_id = $1`, []any{id}}, // and what belongs to each
		{&counts.Users, `DELETE FROM users WHERE merchant_id = $1`, []any{id}},
		{nil, `DELETE FROM merchants WHERE id = $1`, []any{id}},
	} {
		n, err := pg.Exec(ctx, tx, "erase", one.sql, one.args...)
		if err != nil {
			return err
		}
		if one.count != nil {
			*one.count += n
		}
	}
	if err := d.addErasure(ctx, tx, by, s, counts); err != nil {
		return err
	}
	return d.eraseNames(ctx, tx, s)
}

// addErasure writes the receipt, and what providers are to be asked.
func (d *DB) addErasure(ctx context.Context, tx pgx.Tx, by audit.Actor, s subject, counts ErasedCounts) error {
	now := d.Now()
	var hash []byte
	if s.merchant.ExternalID != "" {
		hash = d.Keyset.Sign(externalHashKind, text.Name(s.merchant.ExternalID))
	}
	subjects := append(append(append([]pg.ID{}, s.users...), s.keys...), s.links...)
	for _, c := range s.connections {
		subjects = append(subjects, c.ID)
	}
	if by.Role == "" {
		by.Role = audit.RoleSystem
	}
	b := &pgx.Batch{}
	b.Queue(`INSERT INTO erasures (merchant_id, external_hash, actor, actor_id, erased_at, counts, subjects) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		s.merchant.ID, hash, by.Role, by.ID, now, counts, subjects)
	for _, r := range s.revocations {
		id := pg.NewID()
		plain, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode a revocation: %w", err)
		}
		sealed, err := d.Keyset.Seal(plain, erasureRevocationPlace(id, s.merchant.ID))
		if err != nil {
			return err
		}
		b.Queue(`INSERT INTO erasure_revocations (id, merchant_id, connection_id, provider, environment, sealed, due_at, until) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			id, s.merchant.ID, r.Connection, r.Provider, r.Environment, sealed, now, now.Add(retryRevocationFor))
	}
	if err := tx.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("write a receipt: %w", err)
	}
	return nil
}

// eraseNames empties what staff have typed to find the merchant: the notes of their look-ups, and the filters of bulks. A bulk that has not gathered its
// connections by such a filter is stopped, since it would gather others.
func (d *DB) eraseNames(ctx context.Context, tx pgx.Tx, s subject) error {
	typed, err := pg.One(ctx, tx, "read what staff typed", pgx.RowTo[string], `
		SELECT coalesce(string_agg(lower(note), E'\n'), '') FROM events WHERE kind LIKE ANY (ARRAY['connection.searched', '%.exported', 'bulk.counted', 'user.%']) AND kind NOT LIKE 'refresh.%'
			AND merchant_id IS NULL AND note <> ''`)
	if err != nil {
		return err
	}
	filters, err := pg.One(ctx, tx, "read filters", pgx.RowTo[string], `SELECT coalesce(string_agg(lower(filter #>> '{connections,query}'), E'\n'), '') FROM bulks`)
	if err != nil {
		return err
	}
	typed += "\n" + filters
	// Few of a large merchant's names were ever typed: to compare each with each note takes Postgres long.
	names := slices.DeleteFunc(s.names, func(name string) bool { return !strings.Contains(typed, strings.ToLower(name)) })
	for part := range chunks(names, nameBatch) {
		if _, err := pg.Exec(ctx, tx, "erase names", `SELECT events_erase_names($1, $2)`, s.merchant.ID, part); err != nil {
			return err
		}
		if _, err := pg.Exec(ctx, tx, "erase filters", `
			UPDATE bulks b SET filter = '{"connections": {}}', state = CASE WHEN state IN ('gathering', 'dry-run') THEN 'stopped' ELSE state END,
				ended_at = CASE WHEN state IN ('gathering', 'dry-run') THEN $2 ELSE ended_at END
			WHERE EXISTS (SELECT FROM unnest($1::text[]) AS name WHERE strpos(lower(b.filter #>> '{connections,query}'), lower(name)) > 0)`, part, d.Now()); err != nil {
			return err
		}
	}
	return nil
}

// chunks yields parts of a slice, each of at most n.
func chunks[T any](all []T, n int) func(yield func([]T) bool) {
	return func(yield func([]T) bool) {
		for len(all) > 0 {
			part := all[:min(n, len(all))]
			if all = all[len(part):]; !yield(part) {
				return
			}
		}
	}
}

const erasureColumns = `e.merchant_id, e.erased_at, e.actor, e.actor_id, e.counts, e.emptied, e.emptied_at,
	(SELECT coalesce(jsonb_object_agg(outcome, n), '{}') FROM (SELECT outcome, count(*) AS n FROM erasure_revocations WHERE merchant_id = e.merchant_id AND sealed IS NULL GROUP BY outcome) AS r),
	(SELECT count(*) FROM erasure_revocations WHERE merchant_id = e.merchant_id AND sealed IS NOT NULL),
	(SELECT max(until) FROM erasure_revocations WHERE merchant_id = e.merchant_id AND sealed IS NOT NULL),
	EXISTS (SELECT FROM webhook_endpoints)`

func scanErasure(row pgx.CollectableRow) (Erasure, error) {
	var e Erasure
	err := row.Scan(&e.MerchantID, &e.At, &e.Actor, &e.ActorID, &e.Counts, &e.Emptied, &e.EmptiedAt, &e.Revoked, &e.Pending, &e.PendingUntil, &e.Webhooks)
	return e, err
}

// Erasure returns the receipt of a merchant. It returns ErrNotFound if it was not erased.
func (d *DB) Erasure(ctx context.Context, merchant pg.ID) (Erasure, error) {
	return pg.One(ctx, d.Pool, "read receipt", scanErasure, `SELECT `+erasureColumns+` FROM erasures e WHERE e.merchant_id = $1`, merchant)
}

// ErasureByExternalID returns the latest receipt of a merchant that had an external id. It returns ErrNotFound if there is none, or if it
// was written by a key that was retired since.
func (d *DB) ErasureByExternalID(ctx context.Context, externalID string) (Erasure, error) {
	return pg.One(ctx, d.Pool, "read receipt", scanErasure, `SELECT `+erasureColumns+` FROM erasures e WHERE e.external_hash = ANY ($1) ORDER BY e.erased_at DESC LIMIT 1`,
		d.Keyset.SignByAll(externalHashKind, text.Name(externalID)))
}

// UnfinishedErasures returns the merchants of which there may be something left to do.
func (d *DB) UnfinishedErasures(ctx context.Context) ([]pg.ID, error) {
	return pg.Collect(ctx, d.Pool, "read erasures", pgx.RowTo[pg.ID], `
		SELECT merchant_id FROM erasures WHERE finished_at IS NULL
		UNION SELECT merchant_id FROM erasure_revocations WHERE sealed IS NOT NULL AND due_at <= $1`, d.Now())
}

// EmptyEvents empties the free text of the events of an erased merchant, a few thousand at a time, and once more two minutes after the
// erasure. It deletes the words that are in no other text from the dictionary.
func (d *DB) EmptyEvents(ctx context.Context, merchant pg.ID) error {
	type work struct {
		At, EmptiedAt, FinishedAt time.Time
		Subjects                  []pg.ID
	}
	w, err := pg.One(ctx, d.Pool, "read erasure", pgx.RowToStructByPos[work], `SELECT erased_at, emptied_at, finished_at, subjects FROM erasures WHERE merchant_id = $1`, merchant)
	last := d.Now().Sub(w.At) >= emptyAgainAfter
	if err != nil || !w.FinishedAt.IsZero() || !w.EmptiedAt.IsZero() && !last {
		return err
	}
	if err := d.PurgeSearchWords(ctx); err != nil {
		return err
	}
	total := 0
	for part := range chunks(append([]pg.ID{merchant}, w.Subjects...), subjectBatch) {
		for n := eventBatch; n == eventBatch; total += n {
			if n, err = pg.One(ctx, d.Pool, "empty events", pgx.RowTo[int], `SELECT events_erase($1, $2, $3)`, merchant, part, eventBatch); err != nil {
				return err
			}
		}
	}
	_, err = pg.Exec(ctx, d.Pool, "note an erasure", `UPDATE erasures SET emptied = emptied + $2, emptied_at = coalesce(emptied_at, $3), finished_at = CASE WHEN $4 THEN $3 END,
		subjects = CASE WHEN $4 THEN '{}' ELSE subjects END WHERE merchant_id = $1`, merchant, total, d.Now(), last)
	return err
}

// CountPendingRevocations counts the accesses of erased merchants that their providers are still to end.
func (d *DB) CountPendingRevocations(ctx context.Context) (int64, error) {
	return pg.One(ctx, d.Pool, "count revocations", pgx.RowTo[int64], `SELECT count(*) FROM erasure_revocations WHERE sealed IS NOT NULL`)
}

// DueRevocation is access of an erased merchant that its provider is to end.
type DueRevocation struct {
	ID    pg.ID
	Until time.Time // when it is given up
	Revocation
}

// revocationClaim is how long a process claims a due revocation for: longer than a provider may take.
const revocationClaim = 2 * time.Minute

// DueRevocations claims what providers are to be asked for an erased merchant now, at most a few. What does not open is given up; what another key
// has sealed is left to a process that has it.
func (d *DB) DueRevocations(ctx context.Context, merchant pg.ID, limit int) ([]DueRevocation, error) {
	now := d.Now()
	type row struct {
		ID, Connection        pg.ID
		Provider, Environment string
		Sealed                []byte
		Until                 time.Time
	}
	rows, err := pg.Collect(ctx, d.Pool, "claim revocations", pgx.RowToStructByPos[row], `
		UPDATE erasure_revocations r SET due_at = $2, tries = tries + 1
		WHERE r.id IN (SELECT id FROM erasure_revocations WHERE merchant_id = $1 AND sealed IS NOT NULL AND due_at <= $3 AND NOT `+keyring.UnknownSeal("sealed", "$4")+`
			ORDER BY due_at, id LIMIT $5 FOR UPDATE SKIP LOCKED)
		RETURNING id, connection_id, provider, environment, sealed, until`, merchant, now.Add(revocationClaim), now, d.KnownKeys(), limit)
	if err != nil {
		return nil, err
	}
	var due []DueRevocation
	for _, r := range rows {
		one := DueRevocation{ID: r.ID, Until: r.Until, Revocation: Revocation{Connection: Connection{ID: r.Connection, MerchantID: merchant, Provider: r.Provider, Environment: r.Environment}}}
		plain, err := d.Unseal(r.Sealed, erasureRevocationPlace(r.ID, merchant))
		if err == nil {
			var opened erasureRevocation
			if err = json.Unmarshal(plain, &opened); err == nil {
				one.Grant, one.Connection.Account = opened.Grant, opened.Grant.Account
				one.Connection.Account.ID = opened.Account
			}
		}
		if err != nil {
			if err := d.RecordDueRevocation(ctx, one, status.RevokedNotAsked, connectors.Call{}); err != nil {
				return due, err
			}
			continue
		}
		due = append(due, one)
	}
	return due, nil
}

// RecordDueRevocation notes how a provider took the end of access. One that has not confirmed is asked again, ever later, until the day is over.
// What another process has noted as ended meanwhile, since this one took too long, stays so.
func (d *DB) RecordDueRevocation(ctx context.Context, o DueRevocation, revoked status.Revocation, call connectors.Call) error {
	now := d.Now()
	again := (revoked == status.RevokedFailed || revoked == status.RevokedLater) && now.Before(o.Until)
	return d.Tx(ctx, func(tx pgx.Tx) error {
		if again {
			_, err := pg.Exec(ctx, tx, "note a revocation", `UPDATE erasure_revocations SET outcome = $2, due_at = $3::timestamptz + least(interval '1 minute' * power(2, least(tries, 10) - 1), interval '1 hour')
				WHERE id = $1 AND sealed IS NOT NULL`, o.ID, revoked, now)
			return err
		}
		if revoked == status.RevokedLater {
			revoked = status.RevokedFailed
		}
		n, err := pg.Exec(ctx, tx, "note a revocation", `UPDATE erasure_revocations SET outcome = $2, sealed = NULL WHERE id = $1 AND sealed IS NOT NULL`, o.ID, revoked)
		if err != nil || n == 0 {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{
			Kind: revoked.Kind(), MerchantID: o.Connection.MerchantID, ConnectionID: o.Connection.ID, Provider: o.Connection.Provider,
			Outcome: call.Outcome, Status: call.Status, Millis: int(call.Took.Milliseconds()), Reference: call.Reference,
		})
	})
}
