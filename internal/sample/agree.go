package sample

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// rule is what holds of every row of a database in which states, timelines, grants and figures agree. Its statement selects the rows
// that break it.
type rule struct{ name, sql string }

// decisive has of each connection its latest event that says how it is, and the latest by which it was given access. Times that are
// written beside each other may differ by the time that a call takes.
const decisive = `WITH d AS (
	SELECT c.id, c.provider, c.environment, c.state, c.problem_since, c.failing_since, c.disconnected_at, c.connected_at, c.connected_by, g.sealed, g.generation, g.failures, g.last_outcome,
		g.refreshed_at, g.refresh_at, g.used_at, l.kind, l.outcome, l.at, s.saved_at, s.saves, f.failed
	FROM connections c JOIN grants g ON g.connection_id = c.id
	LEFT JOIN LATERAL (SELECT kind, outcome, at FROM events e WHERE e.connection_id = c.id
		AND (kind LIKE 'refresh.%' OR kind IN ('connection.connected', 'connection.reconnected', 'connection.disconnected')) ORDER BY at DESC, id DESC LIMIT 1) l ON true
	LEFT JOIN LATERAL (SELECT max(at) AS saved_at, count(*) AS saves FROM events e WHERE e.connection_id = c.id
		AND kind IN ('refresh.saved', 'connection.connected', 'connection.reconnected')) s ON true
	LEFT JOIN LATERAL (SELECT count(*) AS failed FROM events e WHERE e.connection_id = c.id
		AND kind IN ('refresh.trouble', 'refresh.refused', 'refresh.ours') AND at > s.saved_at AND note <> 'incident') f ON true
) SELECT d.id || ', ' || d.state FROM d WHERE `

var rules = []rule{
	{"a connection that is fine was given access last", decisive + `state = 'fine' AND (kind NOT IN ('refresh.saved', 'connection.connected', 'connection.reconnected') OR last_outcome <> 'ok')`},
	{"one that is retried failed last, since the first failure after it was given access, as often as it says", decisive + `state = 'retrying'
		AND (kind NOT IN ('refresh.trouble', 'refresh.later') OR failing_since < saved_at OR failures <> failed OR last_outcome NOT IN ('trouble', 'later') OR refresh_at IS NULL)`},
	{"one that needs action failed last, when it says, and nothing is fine after", decisive + `state NOT IN ('fine', 'retrying', 'disconnected')
		AND (kind NOT IN ('refresh.refused', 'refresh.ours') OR outcome <> last_outcome OR at < problem_since - interval '1 second' OR saved_at > problem_since OR failing_since IS NULL)`},
	{"what a merchant must put right is not tried again", decisive + `state IN ('refused', 'interrupted', 'lapsed', 'revoked') AND refresh_at IS NOT NULL`},
	{"a disconnected one ended last, when it says, and holds no grant", decisive + `state = 'disconnected'
		AND (kind <> 'connection.disconnected' OR abs(extract(epoch FROM at - disconnected_at)) > 1 OR sealed IS NOT NULL)`},
	{"it was refreshed when its timeline says", decisive + `state <> 'disconnected' AND coalesce(abs(extract(epoch FROM refreshed_at - saved_at)) > 60, true)`},
	{"it received access as often as its timeline says", decisive + `state <> 'disconnected' AND generation <> saves`},
	{"it is used only while it works", decisive + `used_at < connected_at OR used_at > least(problem_since, disconnected_at, now())`},
	{"every connection is by somebody who can sign in", decisive + `NOT EXISTS (SELECT FROM users u WHERE u.id = connected_by AND u.password_hash <> '')`},
	{"nobody signs in who is invited", `SELECT DISTINCT u.email FROM users u JOIN events e ON e.actor_id = u.id AND e.kind = 'user.signed-in' WHERE u.password_hash = ''`},
	{"who has signed in was seen", `SELECT u.email FROM users u JOIN events e ON e.actor_id = u.id AND e.kind = 'user.signed-in'
		GROUP BY u.id HAVING u.seen_at IS NULL OR u.seen_at < max(e.at) - interval '1 minute'`},
	{"the counts are those of the connections", `SELECT provider || ' ' || environment || ' ' || health || ': ' || sum(n) FROM (
			SELECT provider, environment, health, delta AS n FROM connection_counts
			UNION ALL SELECT provider, environment, connection_health(state), -1 FROM connections) AS sums
		GROUP BY provider, environment, health HAVING sum(n) <> 0`},
	{"the hours are those of the refreshes", `SELECT hour || ' ' || outcome || ': ' || sum(n) FROM (
			SELECT hour, outcome, calls AS n FROM hourly_refreshes
			UNION ALL SELECT date_trunc('hour', at, 'UTC'), outcome, -1 FROM events WHERE kind LIKE 'refresh.%' AND note NOT IN ('no-refresh-token', 'sealed')) AS sums
		GROUP BY hour, outcome HAVING sum(n) <> 0`},
	{"the hours of all providers together are those of each", `SELECT hour || ' ' || outcome || ': ' || sum(n) FROM (
			SELECT hour, outcome, calls AS n FROM hourly_refreshes
			UNION ALL SELECT hour, outcome, -calls FROM hourly_stats WHERE kind = 'refresh') AS sums
		GROUP BY hour, outcome HAVING sum(n) <> 0`},
}

// Disagreements returns in words what contradicts itself in a database: states, timelines, grants and figures. It is for databases that
// Fill or the demo has filled, with events, and reads all of it.
func Disagreements(ctx context.Context, q interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
},
) (found []string, err error) {
	for _, r := range rules {
		rows, err := q.Query(ctx, r.sql+` LIMIT 5`)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		broken, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r.name, err)
		}
		for _, one := range broken {
			found = append(found, r.name+": "+one)
		}
	}
	return found, nil
}
