package db

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// ProviderState is what all processes know together of one provider in one environment.
type ProviderState struct {
	Name, Environment string
	IncidentSince     time.Time // zero: none
	IncidentBy        string    // who declared it; "" when it was found by itself
	Reason            status.Reason
	NextProbe         time.Time
	PausedUntil       time.Time // it asked all of us to wait
	DrainedAt         time.Time // when the last incident ended: recovery is paced from here
}

const providerStateColumns = `name, environment, incident_since, incident_by, reason, next_probe, paused_until, drained_at`

func scanProviderState(row pgx.CollectableRow) (ProviderState, error) {
	var p ProviderState
	err := row.Scan(&p.Name, &p.Environment, &p.IncidentSince, &p.IncidentBy, &p.Reason, &p.NextProbe, &p.PausedUntil, &p.DrainedAt)
	return p, err
}

// ProviderState reads it; a provider that nothing is known of is fine.
func (d *DB) ProviderState(ctx context.Context, name, environment string) (ProviderState, error) {
	rows, err := d.Pool.Query(ctx, `SELECT `+providerStateColumns+` FROM providers WHERE name = $1 AND environment = $2`, name, environment)
	if err != nil {
		return ProviderState{}, fmt.Errorf("read provider: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanProviderState)
	if err != nil {
		return ProviderState{}, fmt.Errorf("read provider: %w", err)
	}
	if len(list) == 0 {
		return ProviderState{Name: name, Environment: environment}, nil
	}
	return list[0], nil
}

// Incidents lists the providers that are failing for everybody, for the banner and the overview.
func (d *DB) Incidents(ctx context.Context) ([]ProviderState, error) {
	rows, err := d.Pool.Query(ctx, `SELECT `+providerStateColumns+` FROM providers WHERE incident_since IS NOT NULL ORDER BY incident_since, name`)
	if err != nil {
		return nil, fmt.Errorf("read incidents: %w", err)
	}
	list, err := pgx.CollectRows(rows, scanProviderState)
	if err != nil {
		return nil, fmt.Errorf("read incidents: %w", err)
	}
	return list, nil
}

// Incident is one time that a provider failed for everybody, or was said to.
type Incident struct {
	Provider, Environment string
	Began, Ended          time.Time // Ended is zero while it lasts
	Reason                status.Reason
	Words                 string // what the person who declared it wrote
	By, EndedBy           pg.ID  // zero: Patchbay by itself
}

// PastIncidents lists the latest incidents of all providers, newest first, open ones included: what the last most events of each kind
// tell. One that began before those is left out.
func (d *DB) PastIncidents(ctx context.Context, most int) ([]Incident, error) {
	events, err := d.Audit.Latest(ctx, most, status.IncidentOpened, status.IncidentDeclared, status.IncidentEnded)
	if err != nil {
		return nil, err
	}
	var list []Incident
	for _, e := range slices.Backward(events) {
		open := -1 // the provider's latest that has not ended
		for i, one := range list {
			if one.Provider == e.Provider && one.Ended.IsZero() && (e.Kind == status.IncidentDeclared || one.Environment == e.Note) {
				open = i
			}
		}
		switch {
		case e.Kind == status.IncidentOpened:
			list = append(list, Incident{Provider: e.Provider, Environment: e.Note, Began: e.At, Reason: status.Reason(e.Code), By: e.Actor.ID})
		case open < 0:
		case e.Kind == status.IncidentDeclared:
			list[open].Words, list[open].By = e.Note, e.Actor.ID
		default:
			list[open].Ended, list[open].EndedBy = e.At, e.Actor.ID
		}
	}
	slices.Reverse(list)
	return list, nil
}

// What an incident is judged by.
const (
	troubleWindow   = 5 * time.Minute
	troubleAttempts = 5
	refusedWindow   = 10 * time.Minute
	atLeastFrom     = 3 // connections; all, if fewer
)

// Judge looks at the latest attempts at a provider and says which incident they make, "" for none. At most the
// last 500 are looked at. Those that were asked to wait, and those whose cause is known, are evidence of neither health nor trouble.
func (d *DB) Judge(ctx context.Context, name, environment string) (reason status.Reason, err error) {
	now := d.Now()
	var attempts, trouble, troubled, refused, ours, all int
	err = d.Pool.QueryRow(ctx, `
		WITH p AS (
			SELECT coalesce(max(drained_at), '-infinity') AS drained FROM providers WHERE name = $1 AND environment = $2
		), recent AS (
			SELECT e.class, e.connection_id, e.at FROM events e
			WHERE e.provider = $1 AND e.kind LIKE 'refresh.%' AND e.at > $5 AND e.class IN ('ok', 'trouble', 'refused', 'ours') AND e.note <> ALL ($6)
			ORDER BY e.at DESC LIMIT 500
		), since_ok AS (
			SELECT r.class, r.connection_id, r.at FROM recent r, p
			WHERE r.at > p.drained AND r.at > coalesce((SELECT max(at) FROM recent WHERE class = 'ok'), '-infinity')
		)
		SELECT
			(SELECT count(*) FROM recent r, p WHERE r.at > $4 AND r.at > p.drained),
			(SELECT count(*) FROM recent r, p WHERE r.at > $4 AND r.at > p.drained AND class = 'trouble'),
			(SELECT count(DISTINCT connection_id) FROM recent r, p WHERE r.at > $4 AND r.at > p.drained AND class = 'trouble'),
			-- For ten minutes after a recovery a provider's no is believed: it has just been seen to say yes.
			(SELECT count(DISTINCT connection_id) FROM since_ok, p WHERE class IN ('refused', 'ours') AND p.drained <= $5),
			(SELECT count(DISTINCT connection_id) FROM since_ok WHERE class = 'ours'),
			(SELECT count(*) FROM (SELECT FROM connections c WHERE c.provider = $1 AND c.environment = $2 AND c.disconnected_at IS NULL LIMIT $3) AS few)`,
		name, environment, atLeastFrom, now.Add(-troubleWindow), now.Add(-refusedWindow),
		[]string{NoteInterrupted, NoteRevoked, NoteUnsent, NoteSealed}).
		Scan(&attempts, &trouble, &troubled, &refused, &ours, &all)
	if err != nil {
		return "", fmt.Errorf("judge attempts: %w", err)
	}
	from := max(1, min(atLeastFrom, all))
	switch {
	case refused >= atLeastFrom || ours >= from:
		return status.ReasonClientRejected, nil
	case attempts >= troubleAttempts && troubled >= from && trouble*2 > attempts:
		return status.ReasonTemporary, nil
	default:
		return "", nil
	}
}

const (
	incidentLock       = `SELECT pg_advisory_xact_lock(hashtextextended('incident ' || $1 || ' ' || $2, 0))`
	incidentLockShared = `SELECT pg_advisory_xact_lock_shared(hashtextextended('incident ' || $1 || ' ' || $2, 0))`
)

// OpenIncident stops the sweep of a provider in all processes. Refusals of the last minutes are taken back when it is
// ourselves who are suspected. opened is false when there was one already.
func (d *DB) OpenIncident(ctx context.Context, name, environment string, reason status.Reason, by audit.Actor, nextProbe time.Time) (opened bool, err error) {
	err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, incidentLock, name, environment); err != nil {
			return fmt.Errorf("open incident: %w", err)
		}
		now, who := d.Now(), ""
		if by.Kind != "system" {
			who = by.ID.String()
		}
		tag, err := tx.Exec(ctx, `
			INSERT INTO providers (name, environment, incident_since, incident_by, reason, next_probe) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (name, environment) DO UPDATE SET incident_since = excluded.incident_since, incident_by = excluded.incident_by,
				reason = excluded.reason, next_probe = excluded.next_probe
			WHERE providers.incident_since IS NULL`, name, environment, now, who, reason, nextProbe)
		if err != nil {
			return fmt.Errorf("open incident: %w", err)
		}
		if opened = tag.RowsAffected() > 0; !opened {
			return nil
		}
		if reason == status.ReasonClientRejected {
			if err := d.takeBackProblems(ctx, tx, name, environment, now); err != nil {
				return err
			}
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.IncidentOpened, Provider: name, Code: string(reason), Note: environment, Actor: by})
	})
	return opened, err
}

func (d *DB) takeBackProblems(ctx context.Context, tx pgx.Tx, name, environment string, now time.Time) error {
	rows, err := tx.Query(ctx, `
		UPDATE connections SET problem = '', problem_since = NULL, failing_since = coalesce(failing_since, $3)
		WHERE provider = $1 AND environment = $2 AND state = ANY ($5) AND problem_since > $4
		RETURNING id`, name, environment, now, now.Add(-refusedWindow), []status.Problem{status.ProblemRejected, status.ProblemClientRejected})
	if err != nil {
		return fmt.Errorf("take problems back: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID])
	if err != nil {
		return fmt.Errorf("take problems back: %w", err)
	}
	_, err = tx.Exec(ctx, `UPDATE grants SET refresh_at = $2 WHERE connection_id = ANY ($1) AND sealed IS NOT NULL AND lease_id IS NULL`, ids, now)
	if err != nil {
		return fmt.Errorf("take problems back: %w", err)
	}
	return nil
}

// EndIncident lets the sweep go on; what failed meanwhile is due. ended is false when there was none.
func (d *DB) EndIncident(ctx context.Context, name, environment string, by audit.Actor) (ended bool, err error) {
	err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, incidentLock, name, environment); err != nil {
			return fmt.Errorf("end incident: %w", err)
		}
		now := d.Now()
		tag, err := tx.Exec(ctx, `
			UPDATE providers SET incident_since = NULL, incident_by = '', reason = '', next_probe = NULL, drained_at = $3
			WHERE name = $1 AND environment = $2 AND incident_since IS NOT NULL`, name, environment, now)
		if err != nil {
			return fmt.Errorf("end incident: %w", err)
		}
		if ended = tag.RowsAffected() > 0; !ended {
			return nil
		}
		_, err = tx.Exec(ctx, `
			UPDATE grants SET refresh_at = $3
			WHERE connection_id = ANY (ARRAY(SELECT id FROM connections WHERE provider = $1 AND environment = $2 AND state = 'retrying'))
				AND sealed IS NOT NULL AND lease_id IS NULL AND refresh_at > $3`, name, environment, now)
		if err != nil {
			return fmt.Errorf("end incident: %w", err)
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.IncidentEnded, Provider: name, Note: environment, Actor: by})
	})
	return ended, err
}

// TakeProbe says whether it is this process that may probe now; the next probe is set in the same breath.
func (d *DB) TakeProbe(ctx context.Context, name, environment string, next time.Time) (bool, error) {
	tag, err := d.Pool.Exec(ctx, `
		UPDATE providers SET next_probe = $4
		WHERE name = $1 AND environment = $2 AND incident_since IS NOT NULL AND reason <> 'declared' AND next_probe <= $3`, name, environment, d.Now(), next)
	if err != nil {
		return false, fmt.Errorf("take a probe: %w", err)
	}
	return tag.RowsAffected() > 0, nil
}

// LaterInARow counts how often in a row the provider has asked a connection's latest attempts to wait, up to 8.
func (d *DB) LaterInARow(ctx context.Context, connection pg.ID) (n int, err error) {
	rows, err := d.Pool.Query(ctx, `
		SELECT class FROM events WHERE connection_id = $1 AND kind LIKE 'refresh.%' ORDER BY at DESC, id DESC LIMIT 8`, connection)
	if err != nil {
		return 0, fmt.Errorf("read attempts: %w", err)
	}
	classes, err := pgx.CollectRows(rows, pgx.RowTo[status.Outcome])
	if err != nil {
		return 0, fmt.Errorf("read attempts: %w", err)
	}
	for n < len(classes) && classes[n] == status.RateLimited {
		n++
	}
	return n, nil
}

// Pause keeps everybody from calling a provider until then; never shorter than it was.
func (d *DB) Pause(ctx context.Context, name, environment string, until time.Time) error {
	_, err := d.Pool.Exec(ctx, `
		INSERT INTO providers (name, environment, paused_until) VALUES ($1, $2, $3)
		ON CONFLICT (name, environment) DO UPDATE SET paused_until = greatest(providers.paused_until, excluded.paused_until)`, name, environment, until)
	if err != nil {
		return fmt.Errorf("pause provider: %w", err)
	}
	return nil
}

// After a hint, the connection is refreshed at these times.
var verifyAfter = [...]time.Duration{0, time.Minute, 10 * time.Minute, time.Hour}

// Hint writes down that a provider says access to an account has ended, for every living connection of that account, and in its
// story. They are due at once, but at most once a minute each. It returns how many there are.
func (d *DB) Hint(ctx context.Context, provider, environment, account string) (int, error) {
	now := d.Now()
	type told struct {
		Connection, Merchant pg.ID
		Again                bool // told less than a minute ago
	}
	var all []told
	err := d.Tx(ctx, func(tx pgx.Tx) error {
		// One at a time, in one order: who comes second sees what the first wrote.
		if _, err := tx.Exec(ctx, `SELECT FROM connections WHERE provider = $1 AND environment = $2 AND account_id = $3 AND disconnected_at IS NULL
			ORDER BY id FOR NO KEY UPDATE`, provider, environment, account); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `
			WITH told AS (
				SELECT c.id, c.merchant_id, c.provider, c.environment, coalesce(v.hinted_at > $4::timestamptz - interval '1 minute', false) AS again
				FROM connections c LEFT JOIN verifications v ON v.connection_id = c.id
				WHERE c.provider = $1 AND c.environment = $2 AND c.account_id = $3 AND c.disconnected_at IS NULL
			), kept AS (
				INSERT INTO verifications (connection_id, provider, environment, step, due_at, hinted_at)
				SELECT id, provider, environment, 0, $4, $4 FROM told
				ON CONFLICT (connection_id) DO UPDATE SET step = 0, hinted_at = excluded.hinted_at, due_at = greatest(excluded.due_at, verifications.checked_at + interval '1 minute')
			) SELECT id, merchant_id, again FROM told`, provider, environment, account, now)
		if err != nil {
			return err
		}
		if all, err = pgx.CollectRows(rows, pgx.RowToStructByPos[told]); err != nil {
			return err
		}
		var b pgx.Batch
		for _, one := range all {
			if !one.Again {
				d.Audit.Queue(&b, audit.Event{Kind: status.ConnectionRevocationNoticed, Actor: audit.Actor{Kind: "provider"}, MerchantID: one.Merchant, ConnectionID: one.Connection, Provider: provider})
			}
		}
		return tx.SendBatch(ctx, &b).Close()
	})
	if err != nil {
		return 0, fmt.Errorf("write down a hint: %w", err)
	}
	return len(all), nil
}

// DueVerifications takes the connections whose hint is to be verified now; nobody else gets them. Those of other environments wait.
func (d *DB) DueVerifications(ctx context.Context, provider, environment string, most int) ([]pg.ID, error) {
	now := d.Now()
	rows, err := d.Pool.Query(ctx, `
		UPDATE verifications v SET step = v.step + 1, checked_at = $3,
			due_at = CASE WHEN v.step + 1 < $4 THEN greatest(v.hinted_at + ($5::interval[])[v.step + 2], $3 + interval '1 minute') END
		WHERE v.connection_id = ANY (ARRAY(
			SELECT connection_id FROM verifications WHERE provider = $1 AND environment = $2 AND due_at <= $3 ORDER BY due_at LIMIT $6 FOR UPDATE SKIP LOCKED))
		RETURNING v.connection_id`, provider, environment, now, len(verifyAfter), verifyAfter[:], most)
	if err != nil {
		return nil, fmt.Errorf("take verifications: %w", err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID])
	if err != nil {
		return nil, fmt.Errorf("take verifications: %w", err)
	}
	return ids, nil
}

// Hinted says whether a provider has told us in the last two hours that access to this connection's account ended.
func (d *DB) Hinted(ctx context.Context, connection pg.ID) (bool, error) {
	var hinted bool
	err := d.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM verifications WHERE connection_id = $1 AND hinted_at > $2)`, connection, d.Now().Add(-2*time.Hour)).Scan(&hinted)
	if err != nil {
		return false, fmt.Errorf("read hints: %w", err)
	}
	return hinted, nil
}
