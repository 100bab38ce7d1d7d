package db

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/pg"
	"patchbay/internal/refresh/schedule"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// Leases hands out the right to refresh a grant and takes in what came of it. It keeps no state of its own but the
// batches under way: all processes on one Postgres agree through the rows.
type Leases struct {
	d *DB
	o LeaseOptions
}

// LeaseOptions are the times of a lease.
type LeaseOptions struct {
	Term   time.Duration // how long a lease lasts; longer than any call
	Settle time.Duration // how long after a lapsed lease a late answer is waited for, where a replay is not safe
}

// NewLeases makes one.
func (d *DB) NewLeases(o LeaseOptions) *Leases { return &Leases{d: d, o: o} }

// Lease is the right to refresh one grant until a time, and the grant as it was then.
type Lease struct {
	ID           pg.ID
	Connection   pg.ID
	Merchant     pg.ID
	Provider     string
	Environment  string
	Grant        connectors.Grant
	Spare        *connectors.Grant // a good answer that came late: to be tried before a refusal is believed
	Generation   int64
	Epoch        int64
	Attempt      int64
	Failures     int
	Until        time.Time
	ExpiresAt    time.Time // of the present token; zero when unknown
	UsedAt       time.Time
	Lost         bool  // the attempt before this one ended without an outcome
	LostAnswer   bool  // of this generation an answer was lost, now or earlier
	Unsealed     error // the grant does not open: ErrSealed. Nothing can be sent
	Problem      string
	FailingSince time.Time
	slot         int16
	fresh        bool // nothing was wrong when it was claimed: the plain way of saving will do
}

func (d *DB) scanLease(row pgx.CollectableRow, id pg.ID, until time.Time) (*Lease, error) {
	l := &Lease{ID: id, Until: until}
	var sealed, spare []byte
	var spareGeneration, lostGeneration int64
	var lastClass status.Outcome
	err := row.Scan(&l.Connection, &l.Merchant, &l.Provider, &l.Environment, &sealed, &spare, &spareGeneration, &l.Generation, &l.Epoch, &l.Attempt,
		&l.Failures, &l.ExpiresAt, &l.UsedAt, &lastClass, &lostGeneration, &l.Problem, &l.FailingSince, &l.slot)
	if err != nil {
		return nil, err
	}
	l.Lost, l.LostAnswer = lastClass == status.Lost, lostGeneration == l.Generation
	l.fresh = l.Failures == 0 && l.Problem == "" && l.FailingSince.IsZero()
	l.Grant, l.Unsealed = openGrant(d.keyset, sealed, grantPlace(l.Connection, l.Generation))
	if spare != nil {
		// One that does not open is one that is not there.
		if g, err := openGrant(d.keyset, spare, sparePlace(l.Connection, spareGeneration)); err == nil {
			l.Spare = &g
		}
	}
	return l, nil
}

// Release gives a lease back: nothing was sent.
func (l *Leases) Release(ctx context.Context, lease *Lease) error {
	var b pgx.Batch
	b.Queue(`UPDATE grants SET lease_id = NULL, leased_until = NULL WHERE connection_id = $1 AND lease_id = $2 AND generation = $3`,
		lease.Connection, lease.ID, lease.Generation)
	b.Queue(freeSlot, lease.Provider, lease.Environment, lease.slot, lease.ID)
	if err := l.d.Pool.SendBatch(ctx, &b).Close(); err != nil {
		return fmt.Errorf("release a lease: %w", err)
	}
	return nil
}

// Told is what is known of an attempt beside its outcome: for the event.
type Told struct {
	By   audit.Actor
	Call connectors.Call
	Note string
}

// What becomes of a good answer.
type Fate string

const (
	Saved   Fate = "saved"
	Spared  Fate = "spared"  // another answer was saved first: this one is kept as the spare
	Dropped Fate = "dropped" // of an older epoch: the connection was made anew or ended meanwhile
)

// Kept is what became of a good answer, and the next grant that was claimed with it.
type Kept struct {
	Fate      Fate
	RefreshAt time.Time // when it is renewed next
	Next      *Lease
}

type save struct {
	lease      *Lease
	sealed     []byte
	token      connectors.Token
	obtained   time.Time
	expires    time.Time
	refreshEnd time.Time // zero: as it was
	endless    bool      // no end is known: another refresh token came without a word on it, or none threatens
	next       time.Time
	event      audit.Event
}

// Save keeps a good answer, whoever holds the lease by now. token is merged into the grant: an empty Refresh, RefreshLifetime
// or Scope keeps the old value. obtained is when the answer was made, at the latest when it was asked for. It is safe to
// repeat after an error, and is to be repeated until it lands. next: in the same breath another grant that is due is claimed in
// this one's place.
func (n *Lane) Save(ctx context.Context, lease *Lease, token connectors.Token, obtained time.Time, keepAlive time.Duration, told Told, next bool) (Kept, error) {
	l := n.leases
	g := merge(lease.Grant, token)
	sealed, err := sealGrant(l.d.keyset, g, grantPlace(lease.Connection, lease.Generation+1))
	if err != nil {
		return Kept{}, err
	}
	used := !lease.UsedAt.IsZero() && obtained.Sub(lease.UsedAt) < schedule.InUse
	s := &save{lease: lease, sealed: sealed, token: g.Token, obtained: obtained}
	if g.Lifetime > 0 {
		s.expires = obtained.Add(g.Lifetime)
	}
	if token.RefreshLifetime > 0 {
		s.refreshEnd = obtained.Add(token.RefreshLifetime)
	}
	// What a merchant typed begins again whenever a refresh token has ended.
	s.endless = len(g.Inputs) > 0 || token.RefreshLifetime <= 0 && token.Refresh != "" && token.Refresh != lease.Grant.Token.Refresh
	s.next = schedule.Due(keepAlive, lease.Connection, g, obtained, used)
	s.event = lease.event(status.RefreshSaved, status.OK, told)
	s.event.ID, s.event.At = pg.NewID(), l.d.Now()
	if s.event.Actor.Kind == "" {
		s.event.Actor = audit.System
	}
	kept := Kept{Fate: Saved, RefreshAt: s.next}
	if lease.fresh {
		done, err := n.steps.Do(ctx, step{save: s, next: next})
		if len(done.leases) > 0 {
			kept.Next = done.leases[0]
		}
		if err != nil || done.landed {
			return kept, err
		}
	}
	kept.Fate, err = l.saveCarefully(ctx, s)
	return kept, err
}

// merge is the one place where an answer that leaves something out keeps the old value.
func merge(old connectors.Grant, t connectors.Token) connectors.Grant {
	g := old
	g.Access, g.Type, g.Lifetime = t.Access, t.Type, t.Lifetime
	if t.Refresh != "" {
		g.Token.Refresh = t.Refresh
	}
	if t.RefreshLifetime > 0 {
		g.RefreshLifetime = t.RefreshLifetime
	}
	if len(t.Scope) > 0 {
		g.Scope = t.Scope
	}
	return g
}

func (l *Lease) event(kind status.Kind, class status.Outcome, told Told) audit.Event {
	return audit.Event{
		Kind: kind, Actor: told.By, MerchantID: l.Merchant, ConnectionID: l.Connection,
		Provider: l.Provider, Class: class, Status: told.Call.Status, Code: told.Call.Code, Millis: int(told.Call.Took / time.Millisecond),
		Reference: told.Call.Reference, Note: told.Note,
	}
}

const grantSaved = `sealed = w.sealed, spare = NULL, spare_generation = 0, generation = g.generation + 1, attempt = g.attempt + 1,
	lease_id = NULL, leased_until = NULL, saved_by = w.lease, lifetime_seconds = w.lifetime, expires_at = w.expires,
	refresh_expires_at = CASE WHEN NOT w.endless THEN coalesce(w.refresh_end, g.refresh_expires_at) END,
	refresh_fixed = NOT w.endless AND g.refresh_expires_at IS NOT NULL AND coalesce(w.refresh_end, g.refresh_expires_at) <= g.refresh_expires_at + interval '1 minute',
	refresh_at = w.next, failures = 0, last_class = 'ok', last_code = '', refreshed_at = w.obtained`

// queueSaves saves many plain successes and their events by one statement. which of the steps they are is given.
func queueSaves(b *pgx.Batch, steps []step, which []int, out []stepped) {
	n := len(which)
	ids, leases, eventIDs, merchants := make([]pg.ID, n), make([]pg.ID, n), make([]pg.ID, n), make([]pg.ID, n)
	generations, epochs, lifetimes := make([]int64, n), make([]int64, n), make([]int64, n)
	sealed, expires, refreshEnds, nexts := make([][]byte, n), make([]time.Time, n), make([]time.Time, n), make([]time.Time, n)
	obtained, ats := make([]time.Time, n), make([]time.Time, n)
	actors, providers, codes, references := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	addresses, notes := make([]string, n), make([]string, n)
	actorIDs, statuses, millis := make([]pg.ID, n), make([]int32, n), make([]int32, n)
	environments, slots, endless := make([]string, n), make([]int16, n), make([]bool, n)
	for i, at := range which {
		s := steps[at].save
		e := &s.event
		ids[i], leases[i], eventIDs[i], merchants[i] = s.lease.Connection, s.lease.ID, e.ID, e.MerchantID
		generations[i], epochs[i], lifetimes[i] = s.lease.Generation, s.lease.Epoch, int64(s.token.Lifetime/time.Second)
		sealed[i], expires[i], refreshEnds[i], nexts[i] = s.sealed, s.expires, s.refreshEnd, s.next
		obtained[i], ats[i] = s.obtained, e.At
		actors[i], providers[i], codes[i], references[i] = e.Actor.Kind, e.Provider, e.Code, e.Reference
		addresses[i], notes[i] = e.Actor.Address, e.Note
		actorIDs[i], statuses[i], millis[i] = e.Actor.ID, int32(e.Status), int32(e.Millis)
		environments[i], slots[i], endless[i] = s.lease.Environment, s.lease.slot, s.endless
	}
	b.Queue(`
		WITH w AS (
			SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bytea[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[],
				$10::timestamptz[], $11::uuid[], $12::timestamptz[], $13::uuid[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[], $19::text[],
				$20::uuid[], $21::integer[], $22::integer[], $23::text[], $24::smallint[], $25::boolean[])
				AS w (id, lease, generation, epoch, lifetime, sealed, expires, refresh_end, next,
				obtained, event_id, at, merchant_id, actor, provider, code, reference, address, note, actor_id, status, millis, environment, slot, endless)
		), freed AS (
			UPDATE slots s SET until = '-infinity', lease_id = NULL FROM w
			WHERE s.provider = w.provider AND s.environment = w.environment AND s.n = w.slot AND s.lease_id = w.lease
		), kept AS (
			UPDATE grants g SET `+grantSaved+` FROM w
			WHERE g.connection_id = w.id AND g.generation = w.generation AND g.epoch = w.epoch AND g.failures = 0
			RETURNING w.id, w.event_id, w.at, w.actor, w.actor_id, w.merchant_id, w.provider, w.status, w.code, w.millis, w.reference, w.address, w.note
		), told AS (
			INSERT INTO events (`+audit.Columns+`)
			SELECT event_id, at, 'refresh.saved', actor, actor_id, merchant_id, id, NULL, provider, 'ok', status, code, millis, reference, address, note FROM kept
		)
		SELECT id FROM kept`,
		flat(ids), flat(leases), generations, epochs, lifetimes, flat(sealed), flat(expires), flat(refreshEnds), flat(nexts), obtained, flat(eventIDs), ats,
		flat(merchants), actors, providers, codes, references, addresses, notes, flat(actorIDs), statuses, millis, environments, slots, endless).Query(func(rows pgx.Rows) error {
		landed, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID])
		for i, at := range which {
			out[at].landed = slices.Contains(landed, ids[i])
		}
		return err
	})
}

// flat spares pgx the reflection by which it would otherwise walk a slice of such elements.
func flat[T any](list []T) pgtype.FlatArray[T] { return list }

// saveCarefully saves one answer whose grant is not as it was, or had something wrong that is now over.
func (l *Leases) saveCarefully(ctx context.Context, s *save) (fate Fate, err error) {
	lease := s.lease
	err = l.d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		// The connection first, as everybody does who locks both.
		if _, err := tx.Exec(ctx, `SELECT FROM connections WHERE id = $1 FOR UPDATE`, lease.Connection); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, freeSlot, lease.Provider, lease.Environment, lease.slot, lease.ID); err != nil {
			return err
		}
		var generation, epoch int64
		var savedBy pg.ID
		err := tx.QueryRow(ctx, `SELECT generation, epoch, saved_by FROM grants WHERE connection_id = $1 FOR UPDATE`, lease.Connection).
			Scan(&generation, &epoch, &savedBy)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			fate = Dropped
			return nil
		case err != nil:
			return err
		case savedBy == lease.ID:
			fate = Saved // it landed before, and we were not told
			return nil
		case epoch != lease.Epoch:
			fate = Dropped
			s.event.Kind = status.RefreshDropped
			return l.d.Audit.Add(ctx, tx, s.event)
		case generation != lease.Generation:
			fate = Spared
			return l.spare(ctx, tx, s, generation)
		}
		fate = Saved
		_, err = tx.Exec(ctx, `
			UPDATE grants g SET `+grantSaved+`
			FROM (SELECT $2::uuid AS lease, $3::bigint AS lifetime, $4::bytea AS sealed, $5::timestamptz AS expires, $6::timestamptz AS refresh_end,
				$7::timestamptz AS next, $8::timestamptz AS obtained, $9::boolean AS endless) AS w
			WHERE g.connection_id = $1`,
			lease.Connection, lease.ID, int64(s.token.Lifetime/time.Second), s.sealed, s.expires, s.refreshEnd, s.next, s.obtained, s.endless)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, `
			UPDATE connections SET problem = '', problem_since = NULL, failing_since = NULL
			WHERE id = $1 AND (problem <> '' OR failing_since IS NOT NULL)`, lease.Connection)
		if err != nil {
			return err
		}
		if tag.RowsAffected() > 0 {
			s.event.Note = "recovered"
		}
		return l.d.Audit.Add(ctx, tx, s.event)
	})
	if err != nil {
		return "", fmt.Errorf("save a grant: %w", err)
	}
	return fate, nil
}

func (l *Leases) spare(ctx context.Context, tx pgx.Tx, s *save, generation int64) error {
	g := merge(s.lease.Grant, s.token)
	sealed, err := sealGrant(l.d.keyset, g, sparePlace(s.lease.Connection, generation))
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `UPDATE grants SET spare = $2, spare_generation = $3, saved_by = $4 WHERE connection_id = $1`,
		s.lease.Connection, sealed, generation, s.lease.ID); err != nil {
		return err
	}
	s.event.Kind = status.RefreshSpared
	return l.d.Audit.Add(ctx, tx, s.event)
}

func sparePlace(connection pg.ID, generation int64) seal.Place {
	return seal.Place{Table: "grants", Column: "spare", Row: connection, Generation: generation}
}

// What marks the event of a failure whose cause is known: none of them is a sign that the provider fails for everybody.
const (
	NoteInterrupted = "interrupted"      // an answer was lost before
	NoteRevoked     = "revoked"          // the provider had told us that this access has ended
	NoteUnsent      = "no-refresh-token" // nobody was asked: there is nothing to renew with
	NoteSealed      = "sealed"           // nobody was asked: the grant does not open
)

// Failure is the outcome of an attempt that brought no token.
type Failure struct {
	Class   status.Outcome
	Code    string         // the provider's error code, or ours
	Problem status.Problem // what to write on the connection, if anything
	After   time.Duration  // when it is worth another try; 0: never by itself
	Lost    bool           // the request may have been answered, and we shall never know how
	Certain bool           // of this connection alone, whatever its provider is going through: an incident does not hide it
}

// Record writes how an attempt ended that brought no token, as long as the lease is still its own. During an incident nothing
// is counted and nobody is blamed, save for what is certain of the connection itself. frozen says that this was so. superseded: somebody else's outcome stands.
func (l *Leases) Record(ctx context.Context, lease *Lease, end Failure, told Told) (frozen, superseded bool, err error) {
	err = l.d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		now := l.d.Now()
		// An incident opens before this or after it, never in between: then it would not know whom to take a problem back from.
		if _, err := tx.Exec(ctx, incidentLockShared, lease.Provider, lease.Environment); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT FROM connections WHERE id = $1 FOR UPDATE`, lease.Connection); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, freeSlot, lease.Provider, lease.Environment, lease.slot, lease.ID); err != nil {
			return err
		}
		var suspected bool
		err := tx.QueryRow(ctx, `SELECT coalesce(bool_or(true), false), coalesce(bool_or(reason = 'ours'), false) FROM providers
			WHERE name = $1 AND environment = $2 AND incident_since IS NOT NULL`, lease.Provider, lease.Environment).Scan(&frozen, &suspected)
		if err != nil {
			return err
		}
		// What a webhook announced and the provider confirms is not believed while it is we who are suspected.
		frozen = frozen && (!end.Certain || (suspected && end.Problem == status.ProblemRevoked))
		next := now // an incident's end finds it due
		if !frozen {
			next = time.Time{}
			if end.After > 0 {
				next = now.Add(end.After)
			}
		}
		counted := !frozen && end.Class != status.RateLimited
		tag, err := tx.Exec(ctx, `
			UPDATE grants SET attempt = attempt + 1, lease_id = NULL, leased_until = NULL, last_class = $4, last_code = $5, refresh_at = $6,
				failures = failures + CASE WHEN $7 THEN 1 ELSE 0 END, spare = CASE WHEN $4 = 'refused' THEN NULL ELSE spare END,
				lost_generation = CASE WHEN $8 THEN generation ELSE lost_generation END
			WHERE connection_id = $1 AND lease_id = $2 AND generation = $3 AND epoch = $9`,
			lease.Connection, lease.ID, lease.Generation, end.Class, end.Code, next, counted, end.Lost, lease.Epoch)
		if err != nil {
			return err
		}
		if superseded = tag.RowsAffected() == 0; superseded {
			return nil
		}
		e := lease.event(status.KindOfFailure(end.Class), end.Class, told)
		e.Code = end.Code
		if frozen {
			e.Note = "incident"
		}
		if err := l.d.Audit.Add(ctx, tx, e); err != nil || !counted {
			return err
		}
		_, err = tx.Exec(ctx, `
			UPDATE connections SET failing_since = coalesce(failing_since, $2), problem = CASE WHEN $3 = '' THEN problem ELSE $3 END,
				problem_since = CASE WHEN $3 = '' OR $3 = problem THEN problem_since ELSE $2 END
			WHERE id = $1 AND disconnected_at IS NULL AND (failing_since IS NULL OR ($3 <> '' AND problem <> $3))`, lease.Connection, now, end.Problem)
		return err
	})
	if err != nil {
		return false, false, fmt.Errorf("record an attempt: %w", err)
	}
	return frozen, superseded, nil
}
