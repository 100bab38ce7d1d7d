package refresh

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/schedule"
	"patchbay/internal/seal"
	"patchbay/internal/status"
)

// lease is the right to refresh one grant until a time, and the grant as it was when it was claimed.
type lease struct {
	ID                pg.ID
	Connection        pg.ID
	Merchant          pg.ID
	Provider          string
	Environment       string
	Grant             connectors.Grant
	LateGrant         *connectors.Grant // from a good answer that came late, or was not chosen: tried before a refusal is believed
	Generation        int64
	ConnectionVersion int64
	Attempt           int64
	Failures          int
	Until             time.Time
	ExpiresAt         time.Time // of the present token; zero when unknown
	RefreshedAt       time.Time // when the grant was obtained
	UsedAt            time.Time
	LostOutcome       bool  // the attempt before this one ended without an outcome
	LostAnswer        bool  // of this generation an answer was lost, now or earlier
	Restored          bool  // the database was put back to an earlier state since RefreshedAt, and the provider rejected the grant
	Unsealed          error // the grant does not open, or is not known to: nothing can be sent
	Problem           status.Problem
	FailingSince      time.Time
	slot              int16
	sealed, late      []byte // Grant and LateGrant as they were claimed, see open
	lateGeneration    int64
}

// healthy says that nothing was wrong when the grant was claimed: it can be saved in bulk.
func (l *lease) healthy() bool {
	return l.Failures == 0 && l.Problem == "" && l.FailingSince.IsZero()
}

// The columns of a claim, see scanLease; g is grants, c connections.
const leaseColumns = `g.connection_id, c.merchant_id, g.provider, g.environment, g.sealed, g.late_grant, g.late_generation, g.generation, g.connection_version, g.attempts,
	g.failures, g.expires_at, g.refreshed_at, g.used_at, g.last_outcome, g.unanswered_generation, c.problem, c.failing_since`

func (q *providerQueue) scanLease(row pgx.CollectableRow, id pg.ID, until time.Time) (*lease, error) {
	l := &lease{ID: id, Until: until}
	var unanswered int64
	var last status.Outcome
	err := row.Scan(&l.Connection, &l.Merchant, &l.Provider, &l.Environment, &l.sealed, &l.late, &l.lateGeneration, &l.Generation, &l.ConnectionVersion, &l.Attempt,
		&l.Failures, &l.ExpiresAt, &l.RefreshedAt, &l.UsedAt, &last, &unanswered, &l.Problem, &l.FailingSince, &l.slot)
	l.LostOutcome, l.LostAnswer = last == status.Lost, unanswered == l.Generation
	return l, err
}

// open opens the grant, and the late one. It is no part of scanLease, which others wait for that share its transaction.
func (l *lease) open(d *db.DB) {
	l.Grant, l.Unsealed = d.OpenGrant(l.sealed, db.GrantPlace(l.Connection, l.Merchant, l.Generation))
	if l.late == nil {
		return
	}
	// A late grant that is damaged is ignored. Without one whose key is missing no rejection could be believed.
	switch g, err := d.OpenGrant(l.late, db.LateGrantPlace(l.Connection, l.Merchant, l.lateGeneration)); {
	case err == nil:
		l.LateGrant = &g
	case errors.Is(err, seal.ErrUnknownKey):
		l.Unsealed = err
	}
}

const freeSlot = `UPDATE provider_slots SET busy_until = '-infinity', lease_id = NULL WHERE provider = $1 AND environment = $2 AND slot = $3 AND lease_id = $4`

// release gives a lease back: nothing was sent. It is safe to lose: the lease lapses.
func (e *Engine) release(ctx context.Context, l *lease) {
	e.releaseAnd(ctx, l, "")
}

// releaseUnrenewable releases the lease of a grant that nothing renews: it is claimed again when its token ends.
func (e *Engine) releaseUnrenewable(ctx context.Context, l *lease) {
	e.releaseAnd(ctx, l, `, last_outcome = 'ok', last_code = '', refresh_at = expires_at, renewable = false,
		refresh_expires_at = least(expires_at, $4), refresh_expiry_fixed = least(expires_at, $4) IS NOT NULL`, l.Grant.Ends)
}

func (e *Engine) releaseAnd(ctx context.Context, l *lease, set string, args ...any) {
	var b pgx.Batch
	b.Queue(`UPDATE grants SET lease_id = NULL, leased_until = NULL`+set+` WHERE connection_id = $1 AND lease_id = $2 AND generation = $3`,
		append([]any{l.Connection, l.ID, l.Generation}, args...)...)
	b.Queue(freeSlot, l.Provider, l.Environment, l.slot, l.ID)
	if err := e.DB.Pool.SendBatch(ctx, &b).Close(); err != nil {
		e.Log.Warn("lease not released", "connection", l.Connection, "err", err)
	}
}

// attemptInfo is what the event of an attempt says beside its outcome.
type attemptInfo struct {
	By   audit.Actor
	Call connectors.Call
	Note string
}

func (l *lease) event(kind status.Kind, outcome status.Outcome, info attemptInfo) audit.Event {
	return audit.Event{
		Kind: kind, Actor: info.By, MerchantID: l.Merchant, ConnectionID: l.Connection, Provider: l.Provider, Outcome: outcome,
		Status: info.Call.Status, Code: info.Call.Code, Millis: int(info.Call.Took / time.Millisecond), Reference: info.Call.Reference, Note: info.Note,
	}
}

// merge puts an answer into the grant it was obtained with. What the answer leaves out keeps its old value; this is the one
// place where it does.
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

// saveOutcome is what became of a good answer.
type saveOutcome string

const (
	saved    saveOutcome = "saved"
	keptLate saveOutcome = "kept-late" // another answer was saved first: this one is the late grant
	dropped  saveOutcome = "dropped"   // of an older version: the connection was made anew or ended meanwhile
)

// saveResult is what became of a good answer, and the next grant that was claimed with it.
type saveResult struct {
	Outcome   saveOutcome
	RefreshAt time.Time // when it is refreshed next
	Next      *lease
}

// save is a good answer to be written.
type save struct {
	lease *lease
	grant connectors.Grant // merged
	row   savedGrant
	event audit.Event
}

// savedGrant is a row of savedColumns. Zero times are NULL.
type savedGrant struct {
	Connection        pg.ID
	Lease             pg.ID
	Slot              int16
	Generation        int64
	ConnectionVersion int64
	Sealed            []byte
	Lifetime          int64 // seconds
	Expires           time.Time
	RefreshEnd        time.Time // zero: as it was
	Endless           bool      // no end is known: another refresh token came without one, or credentials were typed
	Fixed             bool      // no refresh moves RefreshEnd: consent ends then
	RefreshAt         time.Time
	Obtained          time.Time
}

const savedColumns = `connection uuid, lease uuid, slot smallint, generation bigint, connection_version bigint, sealed bytea, lifetime bigint, expires timestamptz,
	refresh_end timestamptz, endless boolean, fixed boolean, next timestamptz, obtained timestamptz`

func (s savedGrant) values() []any {
	return []any{
		s.Connection, s.Lease, s.Slot, s.Generation, s.ConnectionVersion, s.Sealed, s.Lifetime, s.Expires,
		s.RefreshEnd, s.Endless, s.Fixed, s.RefreshAt, s.Obtained,
	}
}

const setSavedGrant = `sealed = w.sealed, late_grant = NULL, late_generation = 0, generation = g.generation + 1, attempts = g.attempts + 1,
	lease_id = NULL, leased_until = NULL, saved_by = w.lease, lifetime_seconds = w.lifetime, expires_at = w.expires,
	refresh_expires_at = CASE WHEN NOT w.endless THEN coalesce(w.refresh_end, g.refresh_expires_at) END,
	refresh_expiry_fixed = w.fixed OR NOT w.endless AND g.refresh_expires_at IS NOT NULL AND coalesce(w.refresh_end, g.refresh_expires_at) <= g.refresh_expires_at + interval '1 minute',
	refresh_at = w.next, failures = 0, last_outcome = 'ok', last_code = '', refreshed_at = w.obtained`

// save writes a good answer, whichever process holds the lease by now. token is merged into the grant: an empty Refresh, RefreshLifetime
// or Scope keeps the old value. obtained is when the answer was made, at the latest when it was asked for. It is safe to
// repeat after an error, and is to be repeated until it succeeds. next: another grant that is due is claimed in this one's place, in
// the same transaction. alone: not together with others, whose saves would fail with this one.
func (q *providerQueue) save(ctx context.Context, l *lease, token connectors.Token, obtained time.Time, info attemptInfo, next, alone bool) (saveResult, error) {
	s, err := q.newSave(l, token, obtained, info)
	if err != nil {
		return saveResult{}, err
	}
	result := saveResult{Outcome: saved, RefreshAt: s.row.RefreshAt}
	if l.healthy() && !alone {
		done, err := q.ops.Do(ctx, op{save: s, next: next})
		if len(done.leases) > 0 {
			result.Next = done.leases[0]
		}
		if err != nil || done.saved {
			return result, err
		}
	}
	result.Outcome, err = q.saveOne(ctx, s)
	return result, err
}

// newSave merges an answer into its grant, and seals it for the generation that it makes.
func (q *providerQueue) newSave(l *lease, token connectors.Token, obtained time.Time, info attemptInfo) (*save, error) {
	g := merge(l.Grant, token)
	sealed, err := q.db.SealGrant(g, db.GrantPlace(l.Connection, l.Merchant, l.Generation+1))
	if err != nil {
		return nil, err
	}
	s := &save{lease: l, grant: g, event: l.event(status.RefreshSaved, status.OK, info), row: savedGrant{
		Connection: l.Connection, Lease: l.ID, Slot: l.slot, Generation: l.Generation, ConnectionVersion: l.ConnectionVersion, Sealed: sealed,
		Lifetime: int64(g.Lifetime / time.Second), Obtained: obtained,
		// What a merchant typed begins again whenever a refresh token has ended.
		Endless:   q.info.Typed(g) || token.RefreshLifetime <= 0 && token.Refresh != "" && token.Refresh != l.Grant.Token.Refresh,
		RefreshAt: schedule.Due(q.info, l.Connection, g, obtained, obtained.Sub(l.UsedAt) < schedule.InUse),
	}}
	if g.Lifetime > 0 {
		s.row.Expires = obtained.Add(g.Lifetime)
	}
	if token.RefreshLifetime > 0 {
		s.row.RefreshEnd = obtained.Add(token.RefreshLifetime)
	}
	if end := g.Ends; !end.IsZero() && (s.row.Endless || end.Before(s.row.RefreshEnd)) {
		s.row.RefreshEnd, s.row.Endless, s.row.Fixed = end, false, true
	}
	return s, nil
}

// maxOps is how many ops share a transaction at most.
const maxOps = 64

// queueSaves saves many answers of healthy grants, and their events, by one statement. done is called with the indexes of those that
// found their grant as it was claimed.
func (q *providerQueue) queueSaves(b *pgx.Batch, saves []*save, done func(saves []int)) {
	args := []any{q.info.Name, q.info.Environment}
	for _, s := range saves {
		args = append(append(args, s.row.values()...), q.db.Audit.Values(s.event)...)
	}
	size := bits.Len(uint(len(saves) - 1))
	perRow := (len(args) - 2) / len(saves)
	args = append(args, make([]any, perRow*(1<<size-len(saves)))...) // rows of NULL, which are no grant's
	b.Queue(saveMany[size], args...).Query(func(rows pgx.Rows) error {
		numbers, err := pgx.CollectRows(rows, pgx.RowTo[int])
		for i := range numbers {
			numbers[i]--
		}
		done(numbers)
		return err
	})
}

// saveMany has statements for one row, two, four and so on to maxOps: few enough for each connection to keep their plans.
var saveMany = func() (statements []string) {
	for n := 1; n <= maxOps; n *= 2 {
		statements = append(statements, `
			WITH w AS MATERIALIZED (
				SELECT * FROM `+pg.Rows(3, n, savedColumns+", "+audit.ColumnTypes)+`
			), freed AS (
				UPDATE provider_slots s SET busy_until = '-infinity', lease_id = NULL FROM w
				WHERE s.provider = $1 AND s.environment = $2 AND s.slot = w.slot AND s.lease_id = w.lease
			), kept AS (
				UPDATE grants g SET `+setSavedGrant+` FROM w
				WHERE g.connection_id = w.connection AND g.generation = w.generation AND g.connection_version = w.connection_version AND g.failures = 0
				RETURNING w.*
			), logged AS (
				INSERT INTO events (`+audit.Columns+`) SELECT `+audit.Columns+` FROM kept
			)
			SELECT n FROM kept`)
	}
	return statements
}()

// saveOne saves one answer whose grant is not as it was claimed, or had something wrong that is now over.
func (q *providerQueue) saveOne(ctx context.Context, s *save) (f saveOutcome, err error) {
	l := s.lease
	err = q.db.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		event := s.event
		if err := q.lockConnection(ctx, tx, l); err != nil {
			return err
		}
		var generation, version int64
		var savedBy pg.ID
		err := tx.QueryRow(ctx, `SELECT generation, connection_version, saved_by FROM grants WHERE connection_id = $1 FOR UPDATE`, l.Connection).
			Scan(&generation, &version, &savedBy)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			f = dropped
			return nil
		case err != nil:
			return err
		case savedBy == l.ID:
			f = saved // an earlier try saved it, and its confirmation was lost
			return nil
		case version != l.ConnectionVersion:
			f, event.Kind = dropped, status.RefreshDropped
			return q.db.Audit.Add(ctx, tx, event)
		case generation != l.Generation:
			f, event.Kind = keptLate, status.RefreshLateKept
			sealed, err := q.db.SealGrant(s.grant, db.LateGrantPlace(l.Connection, l.Merchant, generation))
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `UPDATE grants SET late_grant = $2, late_generation = $3, saved_by = $4 WHERE connection_id = $1`,
				l.Connection, sealed, generation, l.ID); err != nil {
				return err
			}
			return q.db.Audit.Add(ctx, tx, event)
		}
		f = saved
		if _, err := tx.Exec(ctx, `UPDATE grants g SET `+setSavedGrant+` FROM `+pg.Rows(1, 1, savedColumns)+` WHERE g.connection_id = w.connection`, s.row.values()...); err != nil {
			return err
		}
		// The trigger connections_webhook adds the webhook of a connection that is fine again.
		recovered, err := tx.Exec(ctx, `
			UPDATE connections SET problem = '', problem_since = NULL, failing_since = NULL
			WHERE id = $1 AND (problem <> '' OR failing_since IS NOT NULL)`, l.Connection)
		if err != nil {
			return err
		}
		if recovered.RowsAffected() > 0 {
			event.Note = "recovered"
		}
		return q.db.Audit.Add(ctx, tx, event)
	})
	if err != nil {
		return "", fmt.Errorf("save a grant: %w", err)
	}
	return f, nil
}

// lockConnection locks a lease's connection, before its grant as every transaction does that locks both, and frees its slot.
func (q *providerQueue) lockConnection(ctx context.Context, tx pgx.Tx, l *lease) error {
	if _, err := tx.Exec(ctx, `SELECT FROM connections WHERE id = $1 FOR UPDATE`, l.Connection); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, freeSlot, l.Provider, l.Environment, l.slot, l.ID)
	return err
}

// failure is the outcome of an attempt that brought no token.
type failure struct {
	Outcome status.Outcome // RateLimited, Temporary, Rejected or ClientRejected
	Code    string         // the provider's error code, or ours
	Problem status.Problem // what to write on the connection, if anything
	After   time.Duration  // when it is worth another try; 0: never by itself
	Lost    bool           // the request may have been answered, and the answer will never be known
	Certain bool           // of this connection alone, whatever its provider is going through: an incident does not hide it
}

// recorded is what became of a failure.
type recorded struct {
	duringIncident bool // an incident is open: nothing was counted and no problem was written
	superseded     bool // another attempt's outcome stands
}

// record writes how an attempt ended that brought no token, as long as the lease is still its own. During an incident only what is
// certain of the connection itself is counted.
func (q *providerQueue) record(ctx context.Context, l *lease, end failure, info attemptInfo) (r recorded, err error) {
	err = q.db.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		now := q.db.Now()
		// An incident opens before this or after it, never in between: otherwise it would not know which problems to take back.
		if _, err := tx.Exec(ctx, incidentLockShared, l.Provider, l.Environment); err != nil {
			return err
		}
		if err := q.lockConnection(ctx, tx, l); err != nil {
			return err
		}
		var suspected bool
		err := tx.QueryRow(ctx, `SELECT coalesce(bool_or(true), false), coalesce(bool_or(incident_reason = $3), false) FROM providers
			WHERE name = $1 AND environment = $2 AND incident_since IS NOT NULL`, l.Provider, l.Environment, status.ReasonClientRejected).Scan(&r.duringIncident, &suspected)
		if err != nil {
			return err
		}
		// What a webhook announced and the provider confirms is not believed while our own client is suspected.
		r.duringIncident = r.duringIncident && (!end.Certain || (suspected && end.Problem == status.ProblemRevoked))
		next := now // an incident's end finds it due
		if !r.duringIncident {
			next = time.Time{}
			if end.After > 0 {
				next = now.Add(end.After)
			}
		}
		counted := !r.duringIncident && end.Outcome != status.RateLimited
		// A late grant that came during the attempt has not been tried: it is due at once.
		tag, err := tx.Exec(ctx, `
			UPDATE grants SET attempts = attempts + 1, lease_id = NULL, leased_until = NULL, last_outcome = $4, last_code = $5,
				refresh_at = CASE WHEN $4 = 'refused' AND late_grant IS DISTINCT FROM $10 THEN $11::timestamptz ELSE $6 END,
				failures = failures + CASE WHEN $7 THEN 1 ELSE 0 END,
				late_grant = CASE WHEN $4 = 'refused' AND late_grant IS NOT DISTINCT FROM $10 THEN NULL ELSE late_grant END,
				unanswered_generation = CASE WHEN $8 THEN generation ELSE unanswered_generation END
			WHERE connection_id = $1 AND lease_id = $2 AND generation = $3 AND connection_version = $9`,
			l.Connection, l.ID, l.Generation, end.Outcome, end.Code, next, counted, end.Lost, l.ConnectionVersion, l.late, now)
		if err != nil {
			return err
		}
		if r.superseded = tag.RowsAffected() == 0; r.superseded {
			return nil
		}
		e := l.event(status.KindOfFailure(end.Outcome), end.Outcome, info)
		e.Code = end.Code
		if r.duringIncident {
			e.Note = status.NoteIncident
		}
		if err := q.db.Audit.Add(ctx, tx, e); err != nil || !counted {
			return err
		}
		// The trigger connections_webhook adds the webhook of a problem that came or changed.
		_, err = tx.Exec(ctx, `
			UPDATE connections SET failing_since = coalesce(failing_since, $2), problem = CASE WHEN $3 = '' THEN problem ELSE $3 END,
				problem_since = CASE WHEN $3 = '' OR $3 = problem THEN problem_since ELSE $2 END
			WHERE id = $1 AND disconnected_at IS NULL AND (failing_since IS NULL OR ($3 <> '' AND problem <> $3))`, l.Connection, now, end.Problem)
		return err
	})
	if err != nil {
		return recorded{}, fmt.Errorf("record an attempt: %w", err)
	}
	return r, nil
}
