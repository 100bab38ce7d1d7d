// Package sample fills a database with made-up data of realistic shape, for the demo, the benchmarks and tests, and names
// the lists that are measured on it.
package sample

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/status"
)

// Scale is how much Fill makes.
type Scale struct {
	Connections int
	Environment string                   // where most are, "production" when empty; a few are in the other
	Merchants   int                      // 0: one for each hundred connections, at least ten
	Events      int                      // about how often a connection of all the last 180 days was renewed; at most 100
	Progress    func(what string, n int) // may be nil
}

// Fill writes merchants, users, connections, grants and events of realistic shape: names in two scripts, merchants of very
// different size, every health, three years of connecting and six months of history. States, timelines, grants and figures agree: see Disagreements, which wants Events. The grants are made up and sealed
// like any other; they are due in a month or later, so that a server started on the database calls no provider. Fill drops
// indexes and creates them again, so it needs the rights of the tables' owner and a database that is not in use. The same
// scale gives the same names.
func Fill(ctx context.Context, d *db.DB, s Scale) error {
	if s.Merchants == 0 {
		s.Merchants = max(10, s.Connections/100)
	}
	f := &filling{d: d, scale: s, now: d.Now(), r: rand.New(rand.NewPCG(168, 1)), words: companyWords(), trades: companyTrades(), forms: companyForms()}
	for range 5000 {
		f.brands = append(f.brands, [2]string{f.syllables(), f.khmerSyllables()})
	}
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"merchants", f.merchants},
		{"connections", f.connections},
		{"statistics", f.measure},
		{"events", f.events},
		{"figures", f.figures},
	} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("fill %s: %w", step.what, err)
		}
	}
	return nil
}

type filling struct {
	d     *db.DB
	scale Scale
	now   time.Time
	r     *rand.Rand

	words, brands, trades [][2]string
	forms                 []string

	merchantIDs  []pg.ID
	merchantKeys []string
	userIDs      []pg.ID
	numbers      int
}

func (f *filling) tell(what string, n int) {
	if f.scale.Progress != nil {
		f.scale.Progress(what, n)
	}
}

// id is a UUIDv7 as it would have been made at a time.
func (f *filling) id(at time.Time) pg.ID {
	var id pg.ID
	binary.BigEndian.PutUint64(id[0:], uint64(at.UnixMilli())<<16|f.r.Uint64N(1<<12))
	binary.BigEndian.PutUint64(id[8:], f.r.Uint64())
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

func pick[T any](f *filling, from []T) T { return from[f.r.IntN(len(from))] }

// Password is that of every sample user.
const Password = "sample demo"

// passwordHash is the Argon2id hash of Password, made once: a hash for each user would take longer than all the rest.
const passwordHash = "$argon2id$v=19$m=19456,t=2,p=1$6NqXeNI6Avdh2NsiYIwNjw$8nzLwUyxPra63ywFc+ebXQ3nsBX7QS3D3VLUQqHJdUA"

func (f *filling) merchants(ctx context.Context) error {
	var merchants, users [][]any
	for i := range f.scale.Merchants {
		at := f.now.Add(-time.Duration(1100-1000*i/f.scale.Merchants) * 24 * time.Hour)
		company, id := f.company(), f.id(at)
		f.merchantIDs, f.merchantKeys = append(f.merchantIDs, id), append(f.merchantKeys, strings.ToLower(company.latin))
		merchants = append(merchants, []any{id, fmt.Sprintf("shop-%s-%d", strings.ToLower(company.word), i), company.latin, pick(f, []string{"en", "km", "km", "fr"}), at})
		for nth := range 2 {
			person := f.person()
			user := f.id(at)
			f.userIDs = append(f.userIDs, user)
			email := fmt.Sprintf("%s.%s%d@%s.example", person[0], person[1], 2*i+nth, strings.ToLower(company.word))
			users = append(users, []any{user, id, "merchant", strings.ToLower(email), person[0] + " " + person[1], at, passwordHash})
		}
	}
	return pgx.BeginFunc(ctx, f.d.Pool, func(tx pgx.Tx) error {
		if _, err := tx.CopyFrom(ctx, pgx.Identifier{"merchants"}, []string{"id", "external_id", "name", "locale", "created_at"}, pgx.CopyFromRows(merchants)); err != nil {
			return err
		}
		_, err := tx.CopyFrom(ctx, pgx.Identifier{"users"}, []string{"id", "merchant_id", "role", "email", "name", "created_at", "password_hash"}, pgx.CopyFromRows(users))
		return err
	})
}

// connections are made in the order of time, as they come in life.
func (f *filling) connections(ctx context.Context) error {
	restore, err := f.withoutIndexes(ctx, "connections", "search_documents", "search_words", "grants")
	if err != nil {
		return err
	}
	const batch = 20_000
	for made := 0; made < f.scale.Connections; made += batch {
		n := min(batch, f.scale.Connections-made)
		var connections, grants, texts [][]any
		for i := range n {
			c, g, text, err := f.connection(made + i)
			if err != nil {
				return err
			}
			connections, grants, texts = append(connections, c), append(grants, g), append(texts, []any{c[0], text})
		}
		err := pgx.BeginFunc(ctx, f.d.Pool, func(tx pgx.Tx) error {
			_, err := tx.CopyFrom(ctx, pgx.Identifier{"connections"}, []string{
				"id", "merchant_id", "merchant_key", "provider", "environment", "account_id", "account_name", "details", "problem", "problem_since",
				"failing_since", "connected_by", "connected_at", "disconnected_at", "used_on",
			}, pgx.CopyFromRows(connections))
			if err != nil {
				return err
			}
			_, err = tx.CopyFrom(ctx, pgx.Identifier{"grants"}, []string{
				"connection_id", "provider", "environment", "sealed", "generation", "lifetime_seconds", "expires_at", "refresh_at", "failures",
				"last_outcome", "refreshed_at", "used_at", "refresh_expires_at", "refresh_expiry_fixed",
			}, pgx.CopyFromRows(grants))
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, `CREATE TEMPORARY TABLE texts (id uuid, text text) ON COMMIT DROP`); err != nil {
				return err
			}
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{"texts"}, []string{"id", "text"}, pgx.CopyFromRows(texts)); err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO search_documents (id, merchant_id, provider, environment, connected_at, account_key, merchant_key, words)
				SELECT c.id, c.merchant_id, c.provider, c.environment, c.connected_at, c.account_key, c.merchant_key, search_fold(t.text) || ' ' || m.words
				FROM texts t JOIN connections c ON c.id = t.id JOIN merchants m ON m.id = c.merchant_id ORDER BY c.connected_at`)
			return err
		})
		if err != nil {
			return err
		}
		f.tell("connections", made+n)
	}
	f.tell("searchable", f.scale.Connections)
	if _, err := f.d.Pool.Exec(ctx, `INSERT INTO search_words (word) SELECT DISTINCT word FROM (SELECT words FROM search_documents UNION ALL SELECT words FROM users) AS texts, search_words_of(words) AS word ON CONFLICT DO NOTHING`); err != nil {
		return err
	}
	if err := f.d.Tx(ctx, func(tx pgx.Tx) error { return f.d.SignAll(ctx, tx) }); err != nil {
		return err
	}
	return restore(ctx)
}

// measure gives the planner its figures and marks pages as seen by all, which index-only reading needs.
func (f *filling) measure(ctx context.Context) error {
	for _, table := range []string{"merchants", "users", "connections", "grants", "search_documents", "search_words", "connection_counts"} {
		if _, err := f.d.Pool.Exec(ctx, `VACUUM ANALYZE `+table); err != nil {
			return err
		}
	}
	f.tell("indexed", f.scale.Connections)
	return nil
}

func (f *filling) connection(i int) (connection, grant []any, text string, err error) {
	// More and more connect each month, over three years.
	age := 1 - float64(i+1)/float64(f.scale.Connections+1)
	at := f.now.Add(-time.Duration(age * age * 3 * 365 * 24 * float64(time.Hour))).Add(-time.Minute)
	id := f.id(at)
	u := f.r.Float64()
	m := int(u * u * float64(len(f.merchantIDs))) // the first merchants have many more
	provider := pick(f, []string{"caminvoice", "caminvoice", "caminvoice", "caminvoice", "caminvoice", "flexiti", "flexiti", "elecq", "elecq", "bookings"})
	environment, other := "production", "sandbox"
	if f.scale.Environment == other {
		environment, other = other, environment
	}
	if f.r.IntN(12) == 0 {
		environment = other
	}
	a := f.account(provider)
	details, err := json.Marshal(a.Details)
	if err != nil {
		return nil, nil, "", err
	}
	var problem status.Problem
	var problemSince, failingSince, disconnectedAt *time.Time
	earliest := f.first().AddDate(0, 0, 9) // what made it so is in the history
	if at.After(earliest) {
		earliest = at
	}
	since := earliest.Add(time.Duration(f.r.Float64() * float64(f.now.Sub(earliest))))
	lately := f.now.Add(-time.Duration(f.r.IntN(36*3600)) * time.Second)
	if lately.Before(at) {
		lately = at
	}
	refreshed := lately // the last time that went well
	failures, outcome := 0, status.OK
	switch n := f.r.IntN(10_000); {
	case n < 250:
		disconnectedAt, refreshed = &since, since
	case n < 420:
		problem, problemSince = pick(f, []status.Problem{
			status.ProblemRejected, status.ProblemRejected, status.ProblemRejected, status.ProblemLapsed, status.ProblemLapsed, status.ProblemRevoked, status.ProblemInterrupted,
		}), &since
		failures, outcome, refreshed = 1, status.Rejected, since
	case n < 425:
		problem, problemSince = pick(f, []status.Problem{status.ProblemClientRejected, status.ProblemSealed}), &lately
		failures, outcome = 1, status.ClientRejected
	case n < 500:
		failingSince, failures, outcome = &lately, 1+f.r.IntN(9), status.Temporary
	}
	if problem != "" {
		failingSince = problemSince
	}
	if failures > 0 || disconnectedAt != nil {
		if refreshed = refreshed.Add(-time.Hour - time.Duration(f.r.IntN(23*3600))*time.Second); refreshed.Before(at) {
			refreshed = at
		}
	}
	usedOn, usedAt := time.Unix(0, 0).UTC(), (*time.Time)(nil)
	if f.r.IntN(10) > 0 {
		ago := time.Duration(f.r.ExpFloat64() * 6 * 24 * float64(time.Hour))
		used := f.now.Add(-ago)
		if problemSince != nil && used.After(*problemSince) {
			used = *problemSince // tokens of a broken connection are not read
		}
		if disconnectedAt != nil && used.After(*disconnectedAt) {
			used = *disconnectedAt
		}
		if used.Before(at) {
			used = at
		}
		usedOn, usedAt = used.Truncate(24*time.Hour), &used
	}
	connection = []any{
		id, f.merchantIDs[m], f.merchantKeys[m], provider, environment, a.ID, a.Name, details, problem, problemSince, failingSince, f.userIDs[2*m], at, disconnectedAt, usedOn,
	}
	// As often as its history says: see events.
	generation := int64(1 + f.r.IntN(1000))
	if f.scale.Events > 0 {
		from := at
		generation = 1
		if f.first().After(at) {
			from, generation = f.first(), 0
		}
		if kept := refreshed.Sub(from); kept > 0 {
			generation += 1 + int64(float64(f.scale.Events)*(0.5+f.r.Float64())*kept.Hours()/24/days)
		}
	}
	var sealed []byte
	if disconnectedAt == nil {
		g := connectors.Grant{Token: connectors.Token{Access: fmt.Sprintf("made-up-%x", f.r.Uint64()), Type: "Bearer", Lifetime: time.Hour}, Account: connectors.Account{ID: a.ID}}
		mark := "made-up-" // what the sandboxes take without having issued it
		if problem != "" && problem.Party() == status.PartyMerchant {
			mark = "ended-"
		}
		switch client := a.Detail("client_id"); {
		case client != "":
			g.Inputs = map[string]string{"client_id": client, "client_secret": mark + "secret-of-" + client, "scope": "merchant"}
		case problem != status.ProblemLapsed:
			g.Refresh = fmt.Sprintf("%s%s-%x", mark, a.ID, f.r.Uint64())
		}
		if sealed, err = f.d.SealGrant(g, db.GrantPlace(id, f.merchantIDs[m], generation)); err != nil {
			return nil, nil, "", err
		}
	}
	due := f.now.AddDate(0, 1, f.r.IntN(30))
	next := &due
	if disconnectedAt != nil || problem != "" && problem.Party() == status.PartyMerchant {
		next = nil
	}
	var ends *time.Time // ELECQ's merchants must come back twice a year
	if provider == "elecq" && disconnectedAt == nil {
		end := f.now.Add(time.Duration(f.r.IntN(182*24)) * time.Hour)
		ends = &end
	}
	grant = []any{id, provider, environment, sealed, generation, int64(3600), due.Add(time.Hour), next, failures, outcome, refreshed, usedAt, ends, ends != nil}
	return connection, grant, db.SearchText(a), nil
}

// company is a made-up business: one of its words, and its name in both scripts.
type company struct{ word, latin, khmer string }

func (f *filling) company() company {
	first, second, trade, form := f.word(), f.word(), pick(f, f.trades), pick(f, f.forms)
	family := f.syllables()
	c := company{word: strings.ReplaceAll(first[0], " ", ""), khmer: "ក្រុមហ៊ុន" + second[1] + first[1] + trade[1]}
	switch f.r.IntN(4) {
	case 0:
		c.latin = family + " " + first[0] + " " + trade[0] + " " + form
	case 1:
		c.latin = first[0] + " " + second[0] + " " + trade[0] + " " + form
	case 2:
		c.latin = fmt.Sprintf("%s%d %s %s", strings.ToUpper(family[:min(len(family), 2)]), 100+f.r.IntN(900), first[0], form)
	default:
		c.latin = family + " & " + f.syllables() + " " + trade[0]
	}
	return c
}

// word is one of a company's name: few are in many names, most in few.
func (f *filling) word() [2]string {
	if f.r.IntN(3) == 0 {
		return pick(f, f.words)
	}
	u := f.r.Float64()
	return f.brands[int(u*u*float64(len(f.brands)))]
}

func (f *filling) person() [2]string {
	if f.r.IntN(3) == 0 {
		return [2]string{pick(f, f.words[:12])[0], f.syllables()}
	}
	return [2]string{f.syllables(), f.syllables()}
}

// syllables make a family name as they are written in Latin letters.
func (f *filling) syllables() string {
	onset := []string{"Ch", "S", "K", "Kh", "V", "R", "B", "D", "M", "N", "Ph", "Th", "L", "H", "P", "T", "Pr", "Sr", "Y", "Ng"}
	rime := []string{"an", "ea", "ok", "im", "eng", "ay", "orn", "ith", "oun", "uy", "al", "et", "ang", "on", "y", "a", "eap", "onn", "ork", "os"}
	name := pick(f, onset) + pick(f, rime)
	if f.r.IntN(3) > 0 {
		name += strings.ToLower(pick(f, onset) + pick(f, rime))
	}
	return name
}

// khmerSyllables make a word as it is written in Khmer letters.
func (f *filling) khmerSyllables() string {
	onset := []rune("កខគឃងចឆជញដតថទធនបផពភមយរលវសហអ")
	rime := []string{"ា", "ិ", "ី", "ុ", "ូ", "ើ", "េ", "ែ", "ៃ", "ោ", "ំ", "ាន", "ុង", "េត", "ិន", "ាម", "ូរ", "ើន", "ោក", "ាស"}
	var name strings.Builder
	for range 2 + f.r.IntN(2) {
		name.WriteString(string(pick(f, onset)) + pick(f, rime))
	}
	return name.String()
}

func (f *filling) digits(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + f.r.IntN(10))
	}
	return string(b)
}

// number has n figures and is not given twice.
func (f *filling) number(n int) string {
	most := 1
	for range n {
		most *= 10
	}
	f.numbers++
	return fmt.Sprintf("%0*d", n, f.numbers*61_803_399%most)
}

func (f *filling) account(provider string) connectors.Account {
	c := f.company()
	switch provider {
	case "caminvoice":
		id := "KHUID9" + f.number(7)
		site := strings.ToLower(c.word) + f.digits(3)
		return connectors.Account{ID: id, Name: c.latin, Details: []connectors.Detail{
			{Key: "endpoint_id", Value: id},
			{Key: "moc_id", Value: f.digits(8)},
			{Key: "company_name_en", Value: c.latin},
			{Key: "company_name_kh", Value: c.khmer},
			{Key: "tin", Value: f.digits(10)},
			{Key: "date_of_incorporation", Value: f.now.AddDate(-1-f.r.IntN(20), 0, -f.r.IntN(365)).Format(time.DateOnly)},
			{Key: "business_type", Value: pick(f, []string{"Private Limited Company", "Sole Proprietorship", "Single Member Private Limited Company", "Branch"})},
			{Key: "city", Value: pick(f, []string{"Phnom Penh", "Phnom Penh", "Siem Reap", "Battambang", "Sihanoukville", "Kampot"})},
			{Key: "country", Value: "KH"},
			{Key: "phone_number", Value: "+855" + f.digits(8)},
			{Key: "email", Value: "info@" + site + ".example"},
		}}
	case "flexiti":
		id := fmt.Sprintf("made-up-%016x", f.r.Uint64())
		return connectors.Account{ID: id + ":merchant", Name: c.latin, Details: []connectors.Detail{{Key: "client_id", Value: id}, {Key: "scope", Value: "merchant"}}}
	case "elecq":
		id := f.number(9)
		return connectors.Account{ID: id, Name: "", Details: []connectors.Detail{{Key: "USER_ID", Value: id}}}
	default:
		id := fmt.Sprintf("%08x-%04x-4%03x-9%03x-%012x", f.r.Uint32(), f.r.IntN(1<<16), f.r.IntN(1<<12), f.r.IntN(1<<12), f.r.Int64N(1<<48))
		return connectors.Account{ID: id, Name: c.latin, Details: []connectors.Detail{{Key: "partner_id", Value: id}, {Key: "client_id", Value: "made-up-" + id}}}
	}
}

// days of history are made.
const days = 180

// first is the first of them.
func (f *filling) first() time.Time { return f.now.Truncate(24*time.Hour).AddDate(0, 0, 1-days) }

// events and flows are made by Postgres, a day at a time, and with them hourly_stats.
func (f *filling) events(ctx context.Context) error {
	if f.scale.Events == 0 {
		return nil
	}
	if _, err := f.d.Pool.Exec(ctx, `SELECT events_make_month(m::date) FROM generate_series($1::date, $2::date, '1 month') AS m`,
		f.now.AddDate(0, -7, 0), f.now.AddDate(0, 1, 0)); err != nil {
		return err
	}
	restore, err := f.withoutIndexes(ctx, "events", "flows")
	if err != nil {
		return err
	}
	first := f.first()
	bounds := make([]int32, 0, len(refresh.LatencyBounds))
	for _, bound := range refresh.LatencyBounds {
		bounds = append(bounds, int32(bound.Milliseconds()))
	}
	total := 0
	for day := range days {
		begin := first.AddDate(0, 0, day)
		var renewals int
		err := f.d.Pool.QueryRow(ctx, `
			WITH story AS (
				SELECT c.*, g.refreshed_at, g.failures, g.last_outcome, greatest(c.connected_at, $2::timestamptz) AS since, g.generation - (c.connected_at >= $2::timestamptz)::int AS saves
				FROM connections c JOIN grants g ON g.connection_id = c.id WHERE c.connected_at < $1::timestamptz + interval '1 day'
			), happened AS ( -- what gave access, evenly to the last; here and there trouble before it; and what made the connection what it is
				SELECT story.*, since + (refreshed_at - since) * (k::float8 / saves) AS at, 'ok' AS outcome, '' AS note
				FROM story, generate_series(greatest(1, floor(saves * extract(epoch FROM $1::timestamptz - since) / extract(epoch FROM refreshed_at - since))::int - 1),
					least(saves, ceil(saves * extract(epoch FROM $1::timestamptz + interval '1 day' - since) / extract(epoch FROM refreshed_at - since))::int + 1)) AS k
				WHERE saves > 0 AND refreshed_at >= $1::timestamptz
				UNION ALL SELECT story.*, problem_since, last_outcome, CASE problem WHEN 'lapsed' THEN 'no-refresh-token' WHEN 'sealed' THEN 'sealed' ELSE '' END
				FROM story WHERE problem <> '' AND disconnected_at IS NULL
				UNION ALL SELECT story.*, failing_since + ($3::timestamptz - failing_since) * (k::float8 / failures), last_outcome, ''
				FROM story, generate_series(0, failures - 1) AS k WHERE state = 'retrying'
			), that_day AS (
				SELECT id, merchant_id, provider, environment, since, at, outcome, note FROM happened WHERE at >= $1::timestamptz AND at < $1::timestamptz + interval '1 day'
			), calls AS (
				SELECT * FROM that_day
				UNION ALL SELECT id, merchant_id, provider, environment, since, at - interval '2 minutes', 'trouble', '' FROM that_day
				WHERE outcome = 'ok' AND at - interval '1 hour' > greatest(since, $1::timestamptz) AND random() < 0.03
			), made AS MATERIALIZED (
				SELECT id, merchant_id, provider, environment, r, at, outcome, note, CASE note WHEN '' THEN (CASE provider WHEN 'flexiti' THEN 350 WHEN 'caminvoice' THEN 120 ELSE 60 END * (0.5 + random() + 8 * power(random(), 12)))::int ELSE 0 END AS millis
				FROM (SELECT *, md5(random()::text || id) AS r FROM calls) AS calls
			), history AS (
				INSERT INTO events (`+eventColumns+`)
				SELECT `+madeID+`, at, 'refresh.' || CASE outcome WHEN 'ok' THEN 'saved' ELSE outcome END, 'system', NULL, merchant_id, id, NULL, provider, outcome,
					CASE WHEN note <> '' THEN 0 WHEN outcome = 'ok' THEN 200 WHEN outcome IN ('refused', 'ours') THEN 401 ELSE 503 END,
					CASE WHEN note <> '' THEN note WHEN outcome = 'refused' THEN 'invalid_grant' WHEN outcome = 'ours' THEN 'invalid_client' ELSE '' END,
					millis, CASE WHEN provider = 'flexiti' THEN r ELSE '' END, '', note FROM made
			), hours AS (
				INSERT INTO hourly_stats (provider, environment, hour, kind, outcome, bucket, calls)
				SELECT provider, environment, date_trunc('hour', at), 'refresh', outcome, width_bucket(millis, $4::int[]), count(*) FROM made WHERE note = '' GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 3
				ON CONFLICT (provider, environment, hour, kind, outcome, bucket) DO UPDATE SET calls = hourly_stats.calls + excluded.calls
			) SELECT count(*) FROM made`, begin, first, f.now, bounds).Scan(&renewals)
		if err != nil {
			return err
		}
		// People sign in, connect and disconnect.
		tag, err := f.d.Pool.Exec(ctx, `
			INSERT INTO events (`+eventColumns+`)
			SELECT `+madeID+`, at, kind, 'merchant', user_id, merchant_id, connection_id, NULL, provider, '', 0, '', 0, '', '203.0.113.' || (1 + floor(random() * 250))::int, ''
			FROM (SELECT $1::timestamptz + random() * interval '1 day' AS at, 'user.signed-in' AS kind, id AS user_id, merchant_id, NULL::uuid AS connection_id, '' AS provider
					FROM users WHERE merchant_id IS NOT NULL AND created_at < $1 AND random() < 0.15
				UNION ALL SELECT connected_at, 'connection.connected', connected_by, merchant_id, id, provider
					FROM connections WHERE connected_at >= $1 AND connected_at < $1::timestamptz + interval '1 day'
				UNION ALL SELECT disconnected_at, 'connection.disconnected', connected_by, merchant_id, id, provider
					FROM connections WHERE disconnected_at >= $1 AND disconnected_at < $1::timestamptz + interval '1 day') AS acts,
				LATERAL (SELECT md5(random()::text || at) AS r) AS chance
			WHERE at <= $2`, begin, f.now)
		if err != nil {
			return err
		}
		total += renewals + int(tag.RowsAffected())
		f.tell("events", total)
	}
	// The way in of each that came in these days; its reference is in the letters of ids.go.
	if _, err := f.d.Pool.Exec(ctx, `
		INSERT INTO flows (id, reference, state_hash, browser_hash, user_id, merchant_id, provider, environment, stage, account_id, account_name, outcome, result_id,
			created_at, touched_at, expires_at)
		SELECT `+madeID+`, translate(upper(substr(r, 1, 4) || '-' || substr(r, 5, 4)), '01234567', 'GHJKMNPQ'), sha256(uuid_send(id)), sha256(uuid_send(id)),
			connected_by, merchant_id, provider, environment, 'connected', account_id, account_name, 'connected', id, at, connected_at, at + interval '10 minutes'
		FROM (SELECT *, connected_at - interval '1 minute' AS at, md5(id::text) AS r FROM connections WHERE connected_at >= $1) AS made
		ON CONFLICT DO NOTHING`, first); err != nil {
		return err
	}
	if err := restore(ctx); err != nil {
		return err
	}
	if _, err := f.d.Pool.Exec(ctx, `UPDATE users u SET seen_at = e.at FROM (SELECT actor_id, max(at) AS at FROM events WHERE kind = 'user.signed-in' GROUP BY 1) AS e WHERE e.actor_id = u.id`); err != nil {
		return err
	}
	_, err = f.d.Pool.Exec(ctx, `VACUUM ANALYZE events, flows`)
	return err
}

const eventColumns = `id, at, kind, actor, actor_id, merchant_id, connection_id, flow_id, provider, outcome, status, code, millis, reference, address, note`

// madeID is a UUIDv7 of the time "at" and the hexadecimal digits "r".
const madeID = `(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(r, 1, 3) || '8' || substr(r, 4, 15))::uuid`

// figures are folded as upkeep does, and the hours of the overview's chart added up.
func (f *filling) figures(ctx context.Context) error {
	if err := f.d.FoldCounts(ctx); err != nil {
		return err
	}
	if _, err := f.d.Pool.Exec(ctx, `INSERT INTO hourly_refreshes (hour, outcome, calls) SELECT hour, outcome, sum(calls) FROM hourly_stats WHERE kind = 'refresh' GROUP BY 1, 2`); err != nil {
		return err
	}
	_, err := f.d.Pool.Exec(ctx, `VACUUM ANALYZE hourly_stats, hourly_refreshes, connection_counts`)
	return err
}

// withoutIndexes drops the tables' indexes, save those of constraints, and returns what makes them again.
func (f *filling) withoutIndexes(ctx context.Context, tables ...string) (func(context.Context) error, error) {
	if f.scale.Connections < 2000 {
		return func(context.Context) error { return nil }, nil
	}
	rows, err := f.d.Pool.Query(ctx, `
		SELECT i.indexrelid::regclass::text, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
		FROM pg_index i LEFT JOIN pg_constraint p ON p.conindid = i.indexrelid
		WHERE i.indrelid = ANY($1::regclass[]) AND p.oid IS NULL`, tables)
	if err != nil {
		return nil, err
	}
	type index struct{ name, definition string }
	indexes, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (one index, err error) {
		return one, row.Scan(&one.name, &one.definition)
	})
	if err != nil {
		return nil, err
	}
	for _, one := range indexes {
		if _, err := f.d.Pool.Exec(ctx, `DROP INDEX `+one.name); err != nil {
			return nil, err
		}
	}
	return func(ctx context.Context) error {
		for i, one := range slices.Backward(indexes) {
			err := pgx.BeginFunc(ctx, f.d.Pool, func(tx pgx.Tx) error {
				if _, err := tx.Exec(ctx, `SET LOCAL maintenance_work_mem = '512MB'`); err != nil {
					return err
				}
				_, err := tx.Exec(ctx, one.definition)
				return err
			})
			if err != nil {
				return err
			}
			f.tell("indexes of "+strings.Join(tables, ", "), len(indexes)-i)
		}
		return nil
	}, nil
}
