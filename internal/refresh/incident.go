package refresh

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// ProviderState is what all processes know together of one provider in one environment.
type ProviderState struct {
	Name, Environment string
	IncidentSince     time.Time // zero: none
	IncidentBy        string    // the id of the person who declared it; "" when it was detected
	Reason            status.Reason
	NextProbe         time.Time
	PausedUntil       time.Time        // the provider asked all of us to wait
	DrainedAt         time.Time        // when the last incident ended: recovery is paced from here
	Message           connectors.Words // of staff to merchants, instead of the general sentence; empty for that one
	Until             time.Time        // until when the incident is expected to last; zero if that is unknown
}

const stateColumns = `name, environment, incident_since, incident_by, incident_reason, next_probe, paused_until, incident_ended_at, incident_message, incident_until`

// ProviderState reads the state of a provider; of an unknown one it is zero.
func (e *Engine) ProviderState(ctx context.Context, name, environment string) (ProviderState, error) {
	list, err := pg.Collect(ctx, e.DB.Pool, "read provider", pgx.RowToStructByPos[ProviderState],
		`SELECT `+stateColumns+` FROM providers WHERE name = $1 AND environment = $2`, name, environment)
	if err != nil || len(list) == 0 {
		return ProviderState{Name: name, Environment: environment}, err
	}
	return list[0], nil
}

// ProviderStates reads the states of all providers that have one.
func (e *Engine) ProviderStates(ctx context.Context) ([]ProviderState, error) {
	return pg.Collect(ctx, e.DB.Pool, "read providers", pgx.RowToStructByPos[ProviderState], `SELECT `+stateColumns+` FROM providers`)
}

// Incidents lists the providers with an open incident, for the banner and the overview.
func (e *Engine) Incidents(ctx context.Context) ([]ProviderState, error) {
	return incidents(ctx, e.DB)
}

func incidents(ctx context.Context, d *db.DB) ([]ProviderState, error) {
	return pg.Collect(ctx, d.Pool, "read incidents", pgx.RowToStructByPos[ProviderState],
		`SELECT `+stateColumns+` FROM providers WHERE incident_since IS NOT NULL ORDER BY incident_since, name`)
}

// Incident is one time that a provider failed for several merchants, or was declared to.
type Incident struct {
	Provider, Environment string
	Began, Ended          time.Time // Ended is zero while it lasts
	Reason                status.Reason
	Message               string // what the person who declared it wrote
	By, EndedBy           pg.ID  // zero: Patchbay by itself
}

// PastIncidents lists the latest incidents of all providers, newest first, open ones included, as the last events of each, up to a limit,
// kind tell. One that began before those is left out.
func (e *Engine) PastIncidents(ctx context.Context, limit int) ([]Incident, error) {
	events, err := e.DB.Audit.Latest(ctx, limit, status.IncidentOpened, status.IncidentDeclared, status.IncidentEnded)
	if err != nil {
		return nil, err
	}
	var list []Incident
	for _, ev := range slices.Backward(events) {
		open := -1 // the provider's latest that has not ended
		for i, one := range list {
			if one.Provider == ev.Provider && one.Ended.IsZero() && (ev.Kind == status.IncidentDeclared || one.Environment == ev.Note) {
				open = i
			}
		}
		switch {
		case ev.Kind == status.IncidentOpened:
			list = append(list, Incident{Provider: ev.Provider, Environment: ev.Note, Began: ev.At, Reason: status.Reason(ev.Code), By: ev.Actor.ID})
		case open < 0:
		case ev.Kind == status.IncidentDeclared:
			list[open].Message, list[open].By = ev.Note, ev.Actor.ID
		default:
			list[open].Ended, list[open].EndedBy = ev.At, ev.Actor.ID
		}
	}
	slices.Reverse(list)
	return list, nil
}

// What opens an incident, and what follows from it.
const (
	temporaryWindow   = 5 * time.Minute
	temporaryAttempts = 5
	temporaryInARow   = 16 // since the last good answer: a provider that hangs gives so many before they are half of those of five minutes
	rejectedWindow    = 10 * time.Minute
	minConnections    = 3 // connections; all, if fewer
	minMerchants      = 2 // one merchant's connections are never an incident
	workedFor         = time.Hour

	probeEvery      = 30 * time.Second
	probeEveryLater = time.Minute      // after the first ten minutes
	recovery        = 10 * time.Minute // after an incident only a quarter of the slots is used for this long
)

// evidence counts failures: the attempts, and whose they were.
type evidence struct{ attempts, connections, merchants int }

// suffices says whether so many connections failed at least, and those of several merchants.
func (e evidence) suffices(connections int) bool {
	return e.connections >= connections && e.merchants >= minMerchants
}

// detect looks at the latest attempts at a provider and returns the reason of the incident that they make, "" for none. It looks
// at 500 at most. Those that were asked to wait, and those whose cause is known, are evidence of neither health nor trouble. Only
// failures of connections that worked before are: that were refreshed since they were made or have had access for workedFor, and
// have not failed for longer than that.
func (q *providerQueue) detect(ctx context.Context) (reason status.Reason, err error) {
	now := q.db.Now()
	var attempts, inARow, all int
	var temporary, rejected, clientRejected evidence
	err = q.db.Pool.QueryRow(ctx, `
		WITH p AS (
			SELECT coalesce(max(incident_ended_at), '-infinity') AS drained FROM providers WHERE name = $1 AND environment = $2
		), recent AS (
			SELECT e.outcome, e.connection_id, e.merchant_id, e.at
			FROM events e JOIN connections c ON c.id = e.connection_id JOIN grants g ON g.connection_id = c.id
			WHERE e.provider = $1 AND e.kind LIKE 'refresh.%' AND e.at > $5 AND e.outcome IN ('ok', 'trouble', 'refused', 'ours') AND e.note <> ALL ($6)
				AND (e.outcome = 'ok' OR (g.refreshed_at > c.connected_at OR c.connected_at < $7) AND (c.failing_since IS NULL OR c.failing_since > $7))
			ORDER BY e.at DESC LIMIT 500
		), since_ok AS (
			SELECT r.outcome, r.connection_id, r.merchant_id, r.at FROM recent r, p
			WHERE r.at > p.drained AND r.at > coalesce((SELECT max(at) FROM recent WHERE outcome = 'ok'), '-infinity')
		)
		SELECT
			(SELECT count(*) FROM recent r, p WHERE r.at > $4 AND r.at > p.drained),
			(SELECT count(*) FROM since_ok r WHERE r.at > $4 AND outcome = 'trouble'),
			t.attempts, t.connections, t.merchants, r.connections, r.merchants, o.connections, o.merchants,
			(SELECT count(*) FROM (SELECT FROM connections c WHERE c.provider = $1 AND c.environment = $2 AND c.disconnected_at IS NULL LIMIT $3) AS few)
		FROM
			(SELECT count(*) AS attempts, count(DISTINCT connection_id) AS connections, count(DISTINCT merchant_id) AS merchants FROM recent r, p
				WHERE r.at > $4 AND r.at > p.drained AND outcome = 'trouble') AS t,
			-- For ten minutes after a recovery a provider's no is believed: it has just been seen to say yes.
			(SELECT count(DISTINCT connection_id) AS connections, count(DISTINCT merchant_id) AS merchants FROM since_ok, p
				WHERE outcome IN ('refused', 'ours') AND p.drained <= $5) AS r,
			(SELECT count(DISTINCT connection_id) AS connections, count(DISTINCT merchant_id) AS merchants FROM since_ok WHERE outcome = 'ours') AS o`,
		q.info.Name, q.info.Environment, minConnections, now.Add(-temporaryWindow), now.Add(-rejectedWindow),
		[]string{status.NoteInterrupted, status.NoteRestored, status.NoteRevoked, status.NoteUnsent, status.NoteSealed}, now.Add(-workedFor)).
		Scan(&attempts, &inARow, &temporary.attempts, &temporary.connections, &temporary.merchants, &rejected.connections, &rejected.merchants,
			&clientRejected.connections, &clientRejected.merchants, &all)
	if err != nil {
		return "", fmt.Errorf("detect an incident: %w", err)
	}
	from := max(1, min(minConnections, all))
	switch {
	case rejected.suffices(minConnections) || clientRejected.suffices(from):
		return status.ReasonClientRejected, nil
	case attempts >= temporaryAttempts && temporary.suffices(from) && (temporary.attempts*2 > attempts || inARow >= temporaryInARow):
		return status.ReasonTemporary, nil
	default:
		return "", nil
	}
}

// detectIncident opens an incident when the latest attempts make one. Several failures at once are looked at together.
func (e *Engine) detectIncident(ctx context.Context, q *providerQueue) {
	q.undetected.Store(true)
	for q.undetected.Load() && q.detecting.TryLock() {
		q.undetected.Store(false)
		reason, err := q.detect(ctx)
		if err == nil && reason != "" {
			err = e.OpenIncident(ctx, q.info.Name, reason, audit.System)
		}
		if err != nil {
			e.Log.Warn("incident not detected", "provider", q.info.Name, "err", err)
		}
		q.detecting.Unlock()
	}
}

const (
	incidentLock       = `SELECT pg_advisory_xact_lock(hashtextextended('incident ' || $1 || ' ' || $2, 0))`
	incidentLockShared = `SELECT pg_advisory_xact_lock_shared(hashtextextended('incident ' || $1 || ' ' || $2, 0))`
)

// OpenIncident stops the sweep of a provider in all processes, unless an incident is open. One that was declared is not probed: it
// lasts until EndIncident. When our own client is suspected, the rejections of the last minutes are taken back. It returns
// pg.ErrNotFound for a provider that is not set up.
func (e *Engine) OpenIncident(ctx context.Context, provider string, reason status.Reason, by audit.Actor) error {
	q := e.queues[provider]
	if q == nil {
		return pg.ErrNotFound
	}
	name, environment := q.info.Name, q.info.Environment
	opened := false
	err := e.DB.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		if _, err := pg.Exec(ctx, tx, "open incident", incidentLock, name, environment); err != nil {
			return err
		}
		now := e.DB.Now()
		var who string
		var nextProbe time.Time
		if by.ID != (pg.ID{}) {
			who = by.ID.String()
		}
		if reason != status.ReasonDeclared {
			nextProbe = now.Add(probeEvery)
		}
		n, err := pg.Exec(ctx, tx, "open incident", `
			INSERT INTO providers (name, environment, incident_since, incident_by, incident_reason, next_probe) VALUES ($1, $2, $3, $4, $5, $6)
			ON CONFLICT (name, environment) DO UPDATE SET incident_since = excluded.incident_since, incident_by = excluded.incident_by,
				incident_reason = excluded.incident_reason, next_probe = excluded.next_probe, incident_message = '{}', incident_until = NULL
			WHERE providers.incident_since IS NULL`, name, environment, now, who, reason, nextProbe)
		if opened = n > 0; err != nil || !opened {
			return err
		}
		if reason == status.ReasonClientRejected {
			if err := q.revertRejections(ctx, tx, now); err != nil {
				return err
			}
		}
		return e.DB.Audit.Add(ctx, tx, audit.Event{Kind: status.IncidentOpened, Actor: by, Provider: name, Code: string(reason), Note: environment})
	})
	if opened && err == nil {
		e.Log.Warn("incident opened", "provider", name, "reason", reason)
		if reason == status.ReasonClientRejected {
			e.warnOfRestore(ctx)
		}
	}
	return err
}

// SetIncidentMessage stores what merchants read of a provider's open incident, in place of the general sentence, and until when it is
// expected to last. An empty message brings the general sentence back. It returns pg.ErrNotFound if there is no incident.
func (e *Engine) SetIncidentMessage(ctx context.Context, provider string, message connectors.Words, until time.Time, by audit.Actor) error {
	q := e.queues[provider]
	if q == nil {
		return pg.ErrNotFound
	}
	return e.DB.Tx(ctx, func(tx pgx.Tx) error {
		n, err := pg.Exec(ctx, tx, "set the message of an incident", `
			UPDATE providers SET incident_message = $3, incident_until = $4 WHERE name = $1 AND environment = $2 AND incident_since IS NOT NULL`,
			q.info.Name, q.info.Environment, map[string]string(message), until)
		if err != nil {
			return err
		}
		if n == 0 {
			return pg.ErrNotFound
		}
		return e.DB.Audit.Add(ctx, tx, audit.Event{Kind: status.IncidentMessage, Actor: by, Provider: provider, Note: message.In("en")})
	})
}

// revertRejections clears recent rejections and makes their connections due again.
func (q *providerQueue) revertRejections(ctx context.Context, tx pgx.Tx, now time.Time) error {
	ids, err := pg.Collect(ctx, tx, "take problems back", pgx.RowTo[pg.ID], `
		UPDATE connections SET problem = '', problem_since = NULL, failing_since = coalesce(failing_since, $3)
		WHERE provider = $1 AND environment = $2 AND state = ANY ($5) AND problem_since > $4
		RETURNING id`, q.info.Name, q.info.Environment, now, now.Add(-rejectedWindow), []status.Problem{status.ProblemRejected, status.ProblemClientRejected})
	if err != nil {
		return err
	}
	_, err = pg.Exec(ctx, tx, "take problems back",
		`UPDATE grants SET refresh_at = $2 WHERE connection_id = ANY ($1) AND sealed IS NOT NULL AND lease_id IS NULL`, ids, now)
	return err
}

// EndIncident ends a provider's incident: the sweep goes on, and what failed meanwhile is drained in order of expiry. It returns
// pg.ErrNotFound for a provider that is not set up, and nil when there is no incident.
func (e *Engine) EndIncident(ctx context.Context, provider string, by audit.Actor) error {
	q := e.queues[provider]
	if q == nil {
		return pg.ErrNotFound
	}
	ended, err := endIncident(ctx, e.DB, q.info.Name, q.info.Environment, by)
	if ended && err == nil {
		e.Log.Info("incident ended", "provider", provider)
		q.wake()
	}
	return err
}

// endIncident ends a provider's incident in the database, which all processes follow.
func endIncident(ctx context.Context, d *db.DB, name, environment string, by audit.Actor) (ended bool, err error) {
	err = d.RetryOnDeadlock(ctx, func(tx pgx.Tx) error {
		if _, err := pg.Exec(ctx, tx, "end incident", incidentLock, name, environment); err != nil {
			return err
		}
		now := d.Now()
		n, err := pg.Exec(ctx, tx, "end incident", `
			UPDATE providers SET incident_since = NULL, incident_by = '', incident_reason = '', next_probe = NULL, incident_ended_at = $3, incident_message = '{}', incident_until = NULL
			WHERE name = $1 AND environment = $2 AND incident_since IS NOT NULL`, name, environment, now)
		if ended = n > 0; err != nil || !ended {
			return err
		}
		_, err = pg.Exec(ctx, tx, "end incident", `
			UPDATE grants SET refresh_at = $3
			WHERE connection_id = ANY (ARRAY(SELECT id FROM connections WHERE provider = $1 AND environment = $2 AND state = $4))
				AND sealed IS NOT NULL AND lease_id IS NULL AND refresh_at > $3`, name, environment, now, status.Retrying)
		if err != nil {
			return err
		}
		return d.Audit.Add(ctx, tx, audit.Event{Kind: status.IncidentEnded, Actor: by, Provider: name, Note: environment})
	})
	return ended, err
}

// recovered ends a pause, and an incident that was not declared: the provider has accepted a refresh.
func (e *Engine) recovered(q *providerQueue) {
	state, err := e.ProviderState(e.ctx, q.info.Name, q.info.Environment)
	if err == nil && state.PausedUntil.After(e.DB.Now()) {
		err = e.EndPause(e.ctx, q.info.Name, audit.System)
	}
	if err != nil {
		e.Log.Warn("provider not resumed", "provider", q.info.Name, "err", err)
		return
	}
	if state.IncidentSince.IsZero() || state.Reason == status.ReasonDeclared {
		return
	}
	if err := e.EndIncident(e.ctx, q.info.Name, audit.System); err != nil {
		e.Log.Warn("incident not ended", "provider", q.info.Name, "err", err)
	}
}

// probe tries a provider in trouble, or one that asked us to wait, with one grant, in one process of all.
func (e *Engine) probe(ctx context.Context, q *providerQueue, state ProviderState, now time.Time) error {
	pause := probeEvery
	if !state.IncidentSince.IsZero() && now.Sub(state.IncidentSince) > 10*time.Minute {
		pause = probeEveryLater
	}
	mine, err := pg.Exec(ctx, q.db.Pool, "take a probe", `
		UPDATE providers SET next_probe = $4
		WHERE name = $1 AND environment = $2 AND (incident_since IS NOT NULL AND incident_reason <> 'declared' OR incident_since IS NULL AND paused_until > $3)
			AND next_probe <= $3`,
		q.info.Name, q.info.Environment, now, now.Add(pause))
	if err != nil || mine == 0 {
		return err
	}
	l, err := q.probe(ctx)
	if err != nil || l == nil {
		return err
	}
	e.run(q, l, func(out Result) {
		if out.Outcome == status.OK {
			e.recovered(q)
		}
	})
	return nil
}

// longestPause is how long a provider is paused at most after 429s to several merchants.
const longestPause = 5 * time.Minute

// pauseIfLimited pauses the provider if it has answered 429 to several merchants lately: then it is our client that is limited. A
// wait that was asked of one connection is that connection's alone.
func (e *Engine) pauseIfLimited(ctx context.Context, q *providerQueue, asked time.Duration) {
	if _, redirects := q.connector.(connectors.Redirector); !redirects { // each merchant's own client is limited
		return
	}
	now := e.DB.Now()
	_, err := pg.Exec(ctx, q.db.Pool, "pause provider", `
		INSERT INTO providers (name, environment, paused_until, next_probe)
		SELECT $1, $2, $3, $4 WHERE $6 <= (
			SELECT count(DISTINCT merchant_id) FROM events
			WHERE provider = $1 AND kind LIKE 'refresh.%' AND at > $5 AND outcome = 'later' AND status = $7)
		ON CONFLICT (name, environment) DO UPDATE SET paused_until = excluded.paused_until, next_probe = excluded.next_probe
		WHERE providers.incident_since IS NULL AND (providers.paused_until IS NULL OR providers.paused_until <= $8)`,
		q.info.Name, q.info.Environment, now.Add(min(asked, longestPause)), now.Add(probeEvery), now.Add(-longestPause), minMerchants,
		http.StatusTooManyRequests, now)
	if err != nil {
		e.Log.Warn("provider not paused", "provider", q.info.Name, "err", err)
	}
}

// EndPause has a provider called again that had asked all of us to wait. It returns pg.ErrNotFound for a provider that is not set up,
// and nil when there is no pause.
func (e *Engine) EndPause(ctx context.Context, provider string, by audit.Actor) error {
	q := e.queues[provider]
	if q == nil {
		return pg.ErrNotFound
	}
	err := e.DB.Tx(ctx, func(tx pgx.Tx) error {
		n, err := pg.Exec(ctx, tx, "end pause", `UPDATE providers SET paused_until = NULL WHERE name = $1 AND environment = $2 AND paused_until > $3`,
			q.info.Name, q.info.Environment, e.DB.Now())
		if err != nil || n == 0 {
			return err
		}
		return e.DB.Audit.Add(ctx, tx, audit.Event{Kind: status.ProviderResumed, Actor: by, Provider: provider, Note: q.info.Environment})
	})
	q.wake()
	return err
}

// pastAttempt is how one attempt ended.
type pastAttempt struct {
	Outcome status.Outcome
	Status  int
	Code    string
	Note    string
	At      time.Time
}

// latestAttempts lists a connection's latest attempts that failed or succeeded, the latest first.
func (q *providerQueue) latestAttempts(ctx context.Context, connection pg.ID) ([]pastAttempt, error) {
	return pg.Collect(ctx, q.db.Pool, "read attempts", pgx.RowToStructByPos[pastAttempt], `
		SELECT outcome, status, code, note, at FROM events WHERE connection_id = $1 AND kind LIKE 'refresh.%' ORDER BY at DESC, id DESC LIMIT 30`, connection)
}

// refreshedSince says whether another of the provider's connections was refreshed since a time.
func (q *providerQueue) refreshedSince(ctx context.Context, connection pg.ID, since time.Time) (bool, error) {
	return pg.One(ctx, q.db.Pool, "read attempts", pgx.RowTo[bool], `
		SELECT EXISTS (SELECT FROM events WHERE provider = $1 AND kind LIKE 'refresh.%' AND at > $2 AND outcome = 'ok' AND connection_id <> $3)`,
		q.info.Name, since, connection)
}
