package db

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jackc/pgx/v5"
)

// Filter says which connections a list shows and in which order. What is zero filters nothing.
type Filter struct {
	Query       string // names, numbers, e-mail, a reference; words may be mistyped
	Provider    string
	Health      string
	Who         string // who must act: merchant, provider or platform
	Problem     string
	Environment string
	Merchant    ID
	Used        string            // UsedDay, UsedWeek, UsedMonth or UsedNever
	Since       time.Time         // connected at or after
	Lapsing     bool              // access that ends within seven days unless the merchant comes back
	Bulk        ID                // part of these many refreshes,
	Outcome     string            // which ended like this
	Sort        string            // one of the Sort codes, "-" before it reverses; "" is the latest connected first
	Present     map[string]string // each provider's present environment: connections of another one wait for the platform
}

// What a list is sorted by.
const (
	SortConnected = "connected"
	SortUsed      = "used" // to the day
	SortAccount   = "account"
	SortMerchant  = "merchant"
	SortHealth    = "health" // worst first, the latest change first within it
)

// When a connection was last used, to the day.
const (
	UsedDay   = "1d"
	UsedWeek  = "7d"
	UsedMonth = "30d"
	UsedNever = "never"
)

// ParseFilter reads a filter as it stands in a list's address; what cannot be read filters nothing. Present is left to
// the caller.
func ParseFilter(values url.Values) Filter {
	get := func(name string) string {
		return strings.TrimSpace(strings.ReplaceAll(strings.ToValidUTF8(values.Get(name), ""), "\x00", ""))
	}
	f := Filter{
		Query: get("q"), Provider: get("provider"), Health: get("health"), Who: get("who"), Problem: get("problem"), Environment: get("environment"),
		Lapsing: get("lapsing") != "", Outcome: get("outcome"), Sort: get("sort"),
	}
	if runes := []rune(f.Query); len(runes) > 200 {
		f.Query = string(runes[:200])
	}
	if used := get("used"); slices.Contains([]string{UsedDay, UsedWeek, UsedMonth, UsedNever}, used) {
		f.Used = used
	}
	if since, err := time.Parse(time.DateOnly, get("since")); err == nil {
		f.Since = since
	}
	if id, err := ParseID(get("merchant")); err == nil {
		f.Merchant = id
	}
	if id, err := ParseID(get("bulk")); err == nil {
		f.Bulk = id
	}
	return f
}

// Values are the filter as it stands in an address.
func (f Filter) Values() url.Values {
	values := url.Values{}
	for name, value := range map[string]string{
		"q": f.Query, "provider": f.Provider, "health": f.Health, "who": f.Who, "problem": f.Problem, "environment": f.Environment, "used": f.Used,
		"outcome": f.Outcome, "sort": f.Sort,
	} {
		if value != "" {
			values.Set(name, value)
		}
	}
	if !f.Since.IsZero() {
		values.Set("since", f.Since.Format(time.DateOnly))
	}
	if f.Merchant != (ID{}) {
		values.Set("merchant", f.Merchant.String())
	}
	if f.Bulk != (ID{}) {
		values.Set("bulk", f.Bulk.String())
	}
	if f.Lapsing {
		values.Set("lapsing", "7d")
	}
	return values
}

// Line is a connection as lists show it.
type Line struct {
	Connection
	MerchantName string
	ExternalID   string // the platform's own id of the merchant
	RefreshedAt  time.Time
	UsedAt       time.Time
}

// Lines are one page of a list.
type Lines struct {
	All        []Line
	Prev, Next string   // cursors; "" at either end
	Similar    []string // nothing was found as typed: these words were looked for instead
	Flow       *Flow    // the attempt that the query is the reference of; All is its connection
	About      int64    // how many the filter shows; -1 when only counting them would tell
}

// List returns one page of what the filter shows, at most limit lines, from where cursor stands ("" is the start; one
// that does not fit is taken for it). Its time hardly depends on how many connections there are: it either walks an
// index in the asked order until the page is full, or, when that would take long because few lines match, gathers
// those few and sorts them. It finds out which by looking at a few thousand index entries or at a sample.
func (d *DB) List(ctx context.Context, f Filter, cursor string, limit int) (Lines, error) {
	var page Lines
	err := d.read(ctx, func(tx pgx.Tx) error {
		l, err := d.newList(ctx, tx, f)
		if err != nil {
			return err
		}
		l.limit = limit
		l.from(cursor)
		if !l.similar {
			if page, err = l.page(ctx); err != nil || len(page.All) > 0 || cursor != "" || len(l.terms) == 0 {
				return err
			}
		}
		if l.terms, err = corrected(ctx, tx, l.terms); err != nil || l.terms == nil {
			return err
		}
		l.similar, l.rarest = true, nil
		page, err = l.page(ctx)
		for _, t := range l.terms {
			page.Similar = append(page.Similar, t[0])
		}
		return err
	})
	if err != nil {
		return Lines{}, fmt.Errorf("list connections: %w", err)
	}
	return page, nil
}

// Each calls do with everything the filter shows, in its order, in batches and without holding a transaction or a
// connection meanwhile: whoever downloads slowly holds up nobody.
func (d *DB) Each(ctx context.Context, f Filter, do func(Line) error) error {
	cursor := ""
	for {
		page, err := d.List(ctx, f, cursor, 1000)
		if err != nil {
			return err
		}
		for _, line := range page.All {
			if err := do(line); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		cursor = page.Next
	}
}

// read runs do in a read-only transaction whose plans keep to indexes: the planner takes each condition for
// independent of the others and of the order, and would now and then read the whole table for one page.
func (d *DB) read(ctx context.Context, do func(tx pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, d.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `SELECT set_config('enable_seqscan', 'off', true), set_config('jit', 'off', true),
			set_config('enable_hashjoin', 'off', true),
			set_config('enable_mergejoin', 'off', true), set_config('max_parallel_workers_per_gather', '0', true), set_config('plan_cache_mode', 'force_custom_plan', true)`)
		if err != nil {
			return err
		}
		return do(tx)
	})
}

// list is one question to the list, and what has been found out about it.
type list struct {
	tx     pgx.Tx
	filter Filter
	now    time.Time
	limit  int

	order      order
	descending bool
	facets     []facet // nil: all of them
	counts     []Count // of the connections there are
	total      int64
	terms      []term

	key  *string // keyset: the line the page begins after
	id   ID
	back bool // the page before it

	similar bool              // the terms are not those typed, but like them
	rarest  map[string]string // of a long word, the part that the index is asked for
	walked  int               // rows a walk looks at before it gives up
	gather  bool              // a walk has given up

	flow *Flow // that the query names
	only []ID  // the query is the id of one of these connections or of their merchant

	args []any
}

type order struct{ column, kind string }

// A facet is what provider, environment and state filters come down to.
type facet struct{ provider, environment, state string }

// A term is one word of a query, or several of which one must be found. Folded.
type term []string

// indexed says whether an index of trigrams can find every one of the term's words.
func (t term) indexed() bool {
	return !slices.ContainsFunc(t, func(word string) bool { return run(word) < 3 })
}

// run is the longest run of letters and digits in a word.
func run(word string) (longest int) {
	n := 0
	for _, r := range word {
		if n++; !unicode.IsLetter(r) && !unicode.IsDigit(r) && !isKhmer(r) {
			n = 0
		}
		longest = max(longest, n)
	}
	return longest
}

func (d *DB) newList(ctx context.Context, tx pgx.Tx, f Filter) (*list, error) {
	l := &list{tx: tx, filter: f, now: d.Now()}
	code, descending := strings.CutPrefix(f.Sort, "-")
	switch code {
	case SortUsed:
		l.order = order{"used_on", "date"}
	case SortAccount:
		l.order = order{"account_key", "text"}
	case SortMerchant:
		l.order = order{"merchant_key", "text"}
	case SortHealth:
		l.order = order{"health_order", "bigint"}
	case SortConnected:
		l.order = order{"connected_at", "timestamptz"}
	default:
		l.order, descending = order{"connected_at", "timestamptz"}, true
	}
	l.descending = descending
	if err := l.weigh(ctx); err != nil {
		return nil, err
	}
	if id, err := ParseID(strings.TrimSpace(f.Query)); err == nil {
		l.only = []ID{id}
		return l, nil
	}
	if reference := Reference(f.Query); reference != "" {
		rows, err := tx.Query(ctx, `SELECT `+flowColumns+` FROM flows f WHERE f.reference = $1`, reference)
		if err != nil {
			return nil, err
		}
		switch flow, err := pgx.CollectExactlyOneRow(rows, scanFlow); {
		case err == nil:
			l.flow, l.only = &flow, []ID{flow.ResultID, flow.ConnectionID}
			return l, nil
		case !errors.Is(err, pgx.ErrNoRows):
			return nil, err
		}
	}
	if strings.TrimSpace(f.Query) != "" {
		var folded string
		if err := tx.QueryRow(ctx, `SELECT search_fold($1)`, f.Query).Scan(&folded); err != nil {
			return nil, err
		}
		for _, word := range strings.Fields(folded) {
			if word = strings.TrimFunc(word, func(r rune) bool { return unicode.IsPunct(r) && r != '@' }); word != "" {
				l.terms = append(l.terms, term{word})
			}
		}
		if len(l.terms) == 0 {
			l.facets = []facet{} // nothing but signs was typed: nothing has them
		}
	}
	return l, nil
}

// weigh asks the counters how many connections there are and which facets the filter keeps: never many.
func (l *list) weigh(ctx context.Context) error {
	f := l.filter
	filtered := f.Provider != "" || f.Health != "" || f.Who != "" || f.Problem != "" || f.Environment != ""
	if filtered {
		l.facets = []facet{}
	}
	rows, err := l.tx.Query(ctx, `SELECT provider, environment, health, sum(difference)::bigint FROM counters GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`)
	if err != nil {
		return err
	}
	if l.counts, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Count]); err != nil {
		return err
	}
	for i, c := range l.counts {
		l.total += c.Connections
		known := i > 0 && l.counts[i-1].Provider == c.Provider && l.counts[i-1].Environment == c.Environment
		if known || !filtered || (f.Provider != "" && f.Provider != c.Provider) || (f.Environment != "" && f.Environment != c.Environment) {
			continue
		}
		for _, state := range states() {
			as := Connection{Provider: c.Provider, Environment: c.Environment}.inState(state).Presently(f.Present)
			if (f.Health == "" || f.Health == as.Health()) && (f.Who == "" || f.Who == as.WhoMustAct()) && (f.Problem == "" || f.Problem == as.Problem) {
				l.facets = append(l.facets, facet{c.Provider, c.Environment, state})
			}
		}
	}
	return nil
}

// states are the values of the column connections.state.
func states() []string {
	return []string{
		Fine, Retrying, Disconnected, ProblemRefused, ProblemInterrupted, ProblemLapsed, ProblemRevoked, ProblemOurs, ProblemSealed,
	}
}

func (c Connection) inState(state string) Connection {
	someTime := time.Unix(1, 0)
	switch state {
	case Fine:
	case Retrying:
		c.FailingSince = someTime
	case Disconnected:
		c.DisconnectedAt = someTime
	default:
		c.Problem = state
	}
	return c
}

// Presently is the connection with the problem of its environment when that is not the provider's present one.
func (c Connection) Presently(present map[string]string) Connection {
	if environment, known := present[c.Provider]; known && environment != c.Environment && c.DisconnectedAt.IsZero() && c.Problem == "" {
		c.Problem = ProblemEnvironment
	}
	return c
}

// cursor is where a page begins, as it stands in an address.
type cursor struct {
	Sort string `json:"s"`
	Key  string `json:"k"`
	ID   ID     `json:"i"`
	Back bool   `json:"b,omitempty"`

	Similar bool `json:"w,omitempty"`
}

func (l *list) from(text string) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var c cursor
	if err != nil || json.Unmarshal(raw, &c) != nil || c.Sort != l.filter.Sort || strings.ContainsRune(c.Key, 0) || !l.order.takes(c.Key) {
		return
	}
	l.key, l.id, l.back, l.similar = &c.Key, c.ID, c.Back, c.Similar
}

// takes says whether a cursor's key can be one of this order's, so that Postgres need not refuse it.
func (o order) takes(key string) bool {
	var err error
	switch o.kind {
	case "timestamptz":
		_, err = time.Parse("2006-01-02 15:04:05.999999-07", key)
	case "date":
		_, err = time.Parse(time.DateOnly, key)
	case "bigint":
		_, err = strconv.ParseInt(key, 10, 64)
	}
	return err == nil
}

func (l *list) cursorAt(c placed, back bool) string {
	raw, err := json.Marshal(cursor{Sort: l.filter.Sort, Key: c.key, ID: c.line.ID, Back: back, Similar: l.similar})
	if err != nil {
		return ""
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// placed is a line with its place in the order.
type placed struct {
	line Line
	key  string
}

// page reads the page and one line more, which tells whether there is another page.
func (l *list) page(ctx context.Context) (Lines, error) {
	if l.facets != nil && len(l.facets) == 0 {
		return Lines{Flow: l.flow}, nil
	}
	found, err := l.read(ctx)
	if err == nil && l.walked > 0 && l.judged() && len(found) <= l.limit && int64(l.walked) < l.total {
		// What is asked for lies far down this order, all together. Better to gather it, however much it is.
		l.gather = true
		found, err = l.read(ctx)
	}
	if err != nil {
		return Lines{}, err
	}
	return l.cut(found), nil
}

func (l *list) read(ctx context.Context) ([]placed, error) {
	l.args, l.walked = nil, 0
	ids, err := l.ids(ctx)
	if err != nil {
		return nil, err
	}
	rows, err := l.tx.Query(ctx, `WITH page AS MATERIALIZED (`+ids+`)
		SELECT `+connectionColumns+`, m.name, coalesce(m.external_id, ''), g.refreshed_at, g.used_at, page.key::text
		FROM page JOIN connections c ON c.id = page.id JOIN merchants m ON m.id = c.merchant_id LEFT JOIN grants g ON g.connection_id = c.id
		ORDER BY page.key `+l.direction()+`, page.id `+l.direction(), l.args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (placed, error) {
		var p placed
		var refreshed, used *time.Time
		targets, finish := connectionTargets(&p.line.Connection)
		if err := row.Scan(append(targets, &p.line.MerchantName, &p.line.ExternalID, &refreshed, &used, &p.key)...); err != nil {
			return p, err
		}
		p.line.RefreshedAt, p.line.UsedAt = timeOrZero(refreshed), timeOrZero(used)
		return p, finish()
	})
}

// cut makes a page of the lines read, of which there may be one too many.
func (l *list) cut(found []placed) Lines {
	more := len(found) > l.limit
	if more {
		found = found[:l.limit]
	}
	if l.back {
		slices.Reverse(found)
	}
	page := Lines{Flow: l.flow, About: -1}
	for _, one := range found {
		one.line.Connection = one.line.Presently(l.filter.Present)
		page.All = append(page.All, one.line)
	}
	if len(found) > 0 {
		if (l.back && more) || (!l.back && l.key != nil) {
			page.Prev = l.cursorAt(found[0], true)
		}
		if l.back || more {
			page.Next = l.cursorAt(found[len(found)-1], false)
		}
	}
	if l.key == nil && !more {
		page.About = int64(len(found))
	} else if f := l.filter; len(l.terms) == 0 && f.Merchant == (ID{}) && f.Used == "" && f.Since.IsZero() && f.Problem == "" && f.Bulk == (ID{}) && !f.Lapsing && f.Who == "" {
		page.About = l.counted()
	}
	return page
}

// counted is what the counters say of the facets. They do not tell problems apart.
func (l *list) counted() (n int64) {
	if l.facets == nil {
		return l.total
	}
	held := map[facet]bool{}
	for _, f := range l.facets {
		held[facet{f.provider, f.environment, Connection{}.inState(f.state).Health()}] = true
	}
	for _, c := range l.counts {
		if held[facet{c.Provider, c.Environment, c.Health}] {
			n += c.Connections
		}
	}
	return n
}

// ids is the statement that finds the page's ids and keys.
func (l *list) ids(ctx context.Context) (string, error) {
	rows, err := l.few(ctx)
	if err != nil {
		return "", err
	}
	key := "c." + l.order.column
	from := func(table, where string) string {
		if !l.judged() {
			return table + ` c WHERE true` + where + l.place()
		}
		return `(SELECT * FROM ` + table + ` c WHERE true` + where + l.place() + l.order.by(key, "c.id", l.direction()) + ` LIMIT ` + strconv.Itoa(l.walked) + `) AS c WHERE true`
	}
	switch {
	case rows != nil:
		return `SELECT c.id, ` + key + ` AS key FROM ` + rows(l) + l.inFacets() + l.conditions() + l.place() + l.tail(key, "c.id"), nil
	case l.plain():
		return `SELECT c.id, ` + key + ` AS key FROM ` + from("finds", "") + ` AND ` + l.contains("c") + l.inFacets() + l.conditions() + l.tail(key, "c.id"), nil
	// One walk over all is enough where the facets hold a good part of all connections: it meets them soon.
	case l.facets == nil || !l.byFacet() || l.filter.Merchant != (ID{}) || (l.judged() && l.order.column != "account_key" && l.counted()*5 > l.total):
		return `SELECT c.id, ` + key + ` AS key FROM ` + from("connections", l.ofMerchant()) + l.inFacets() + l.conditions() + ` AND ` + l.words() + l.tail(key, "c.id"), nil
	}
	// One walk for each facet, in step.
	var p, e, s []string
	for _, one := range l.facets {
		p, e, s = append(p, one.provider), append(e, one.environment), append(s, one.state)
	}
	return `SELECT best.id, best.key FROM unnest(` + l.arg(p) + `::text[], ` + l.arg(e) + `::text[], ` + l.arg(s) + `::text[]) AS f(p, e, s)
		CROSS JOIN LATERAL (SELECT c.id, ` + key + ` AS key FROM ` + from("connections", ` AND c.provider = f.p AND c.environment = f.e AND c.state = f.s`) +
		l.conditions() + ` AND ` + l.words() + l.tail(key, "c.id") + `) AS best` + l.tail("best.key", "best.id"), nil
}

// byFacet says whether there is an index of facets in the asked order.
func (l *list) byFacet() bool {
	return l.order.column == "connected_at" || l.order.column == "used_on" || l.order.column == "account_key"
}

// judged says whether rows are looked at that may not match, beside the facets.
func (l *list) judged() bool {
	return len(l.terms) > 0 || (l.facets != nil && !l.byFacet()) || (l.filter.Used != "" && l.order.column != "used_on") || (!l.filter.Since.IsZero() && l.order.column != "connected_at")
}

// plain says whether the table of words alone can answer a search.
func (l *list) plain() bool {
	_, _, states := l.sides()
	return len(l.terms) > 0 && l.order.column == "connected_at" && l.filter.Used == "" && l.filter.Merchant == ID{} && l.filter.Bulk == ID{} && !l.filter.Lapsing && states == nil
}

// few says how the rows that can match are gathered, when they are few; nil when they are not. What is few grows with
// the root of the total: by then gathering m rows costs as much as walking to a page of them, total / m rows for each.
// The OFFSET keeps Postgres from walking the whole order in search of them.
func (l *list) few(ctx context.Context) (func(*list) string, error) {
	root := math.Sqrt(float64(l.total))
	walked := 1000 + (l.limit+1)*int(2*root)
	if l.only != nil {
		return func(l *list) string {
			only := l.arg(l.only)
			return `(SELECT * FROM connections c WHERE c.id = ANY(` + only + `) UNION SELECT * FROM connections c WHERE c.merchant_id = ANY(` + only + `)) AS c WHERE ` + l.words()
		}, nil
	}
	if l.filter.Bulk != (ID{}) {
		return func(l *list) string {
			return `(SELECT c.* FROM bulk_items i JOIN connections c ON c.id = i.connection_id WHERE i.bulk_id = ` + l.arg(l.filter.Bulk) +
				` AND i.class = ` + l.arg(l.filter.Outcome) + ` OFFSET 0) AS c WHERE ` + l.words()
		}, nil
	}
	if l.filter.Lapsing {
		return func(l *list) string {
			return `(SELECT c.* FROM grants g JOIN connections c ON c.id = g.connection_id
				WHERE g.refresh_fixed AND g.refresh_expires_at > ` + l.arg(l.now) + ` AND g.refresh_expires_at < ` + l.arg(l.now.Add(7*24*time.Hour)) + `
				ORDER BY g.refresh_expires_at LIMIT 20000) AS c WHERE ` + l.words()
		}, nil
	}
	if l.filter.Merchant != (ID{}) && l.order.column == "connected_at" {
		l.walked = int(l.total) // there is an index of a merchant's connections in this order
		return nil, nil
	}
	if l.filter.Merchant != (ID{}) {
		return func(l *list) string {
			return `(SELECT * FROM connections c WHERE c.merchant_id = ` + l.arg(l.filter.Merchant) + ` OFFSET 0) AS c WHERE ` + l.words()
		}, nil
	}
	if len(l.terms) > 0 && !slices.ContainsFunc(l.terms, term.indexed) {
		// Nothing that an index could find: the newest are looked through.
		return func(l *list) string {
			return `(SELECT * FROM connections c ORDER BY c.connected_at DESC, c.id DESC LIMIT 20000) AS c WHERE ` + l.words()
		}, nil
	}
	if len(l.terms) > 0 {
		if err := l.findRarest(ctx); err != nil {
			return nil, err
		}
		// One in 64 tells how common the words are.
		few := int(6 * root / 64)
		counted, err := l.count(ctx, 4*few, func(l *list) string { return `finds f WHERE f.sampled AND ` + l.like() })
		rare := l.gather || counted <= few
		switch {
		case err != nil:
			return nil, err
		case rare && l.plain():
			return func(l *list) string { return `(SELECT * FROM finds f WHERE ` + l.like() + ` OFFSET 0) AS c WHERE true` }, nil
		case rare:
			return func(l *list) string {
				return `(SELECT f.id FROM finds f WHERE ` + l.like() + ` OFFSET 0) AS f JOIN connections c ON c.id = f.id WHERE true`
			}, nil
		}
		// A page is met after total / matching rows for each of its lines, if they lie evenly.
		walked = 500 + 3*(l.limit+1)*int(l.total)/(64*counted)
	}
	var narrow []func(*list) string
	if l.facets != nil && (!l.byFacet() || l.judged()) {
		narrow = append(narrow, (*list).inFacets)
	}
	if l.filter.Used != "" && l.order.column != "used_on" {
		narrow = append(narrow, (*list).usedThen)
	}
	if !l.filter.Since.IsZero() && l.order.column != "connected_at" {
		narrow = append(narrow, (*list).connectedSince)
	}
	for _, condition := range narrow {
		few := int(2 * root)
		counted, err := l.count(ctx, few, func(l *list) string { return `connections c WHERE true` + condition(l) })
		if err != nil {
			return nil, err
		}
		if counted <= few || l.gather {
			return func(l *list) string {
				return `(SELECT * FROM connections c WHERE true` + condition(l) + ` OFFSET 0) AS c WHERE ` + l.words()
			}, nil
		}
	}
	l.walked = walked
	return nil, nil
}

// findRarest chooses, of each long word, six letters that are rare in the sample. The index takes the longer the more
// letters it is asked for, and most of a long word's are in many rows.
func (l *list) findRarest(ctx context.Context) error {
	if l.rarest != nil {
		return nil
	}
	l.rarest = map[string]string{}
	for _, word := range slices.Concat(l.terms...) {
		least := math.MaxInt
		for _, part := range parts(word) {
			n, err := l.count(ctx, 20, func(l *list) string { return `finds f WHERE f.sampled AND f.words LIKE ` + l.arg(contains(part)) })
			if err != nil {
				return err
			}
			if n < least {
				least, l.rarest[word] = n, part
			}
			if n <= 10 {
				break
			}
		}
	}
	return nil
}

// parts are six letters of a long word from several places, those with figures first: they are rarely shared.
func parts(word string) []string {
	letters := []rune(word)
	var numbered, all []string
	for at := 0; len(letters) > 8 && at+6 <= len(letters); at += 3 {
		switch part := string(letters[at : at+6]); {
		case run(part) < 4:
		case strings.ContainsAny(part, "0123456789"):
			numbered = append(numbered, part)
		default:
			all = append(all, part)
		}
	}
	all = append(numbered, all...)
	return all[:min(len(all), 6)]
}

// count counts the rows that are in from, up to one more than most.
func (l *list) count(ctx context.Context, most int, from func(*list) string) (int, error) {
	asked := *l
	asked.args = nil
	var counted int
	err := l.tx.QueryRow(ctx, `SELECT count(*) FROM (SELECT FROM `+from(&asked)+` LIMIT `+strconv.Itoa(most+1)+`) AS looked`, asked.args...).Scan(&counted)
	return counted, err
}

// conditions are what must hold of a row c beside its facets, its place and its words, each beginning with AND.
func (l *list) conditions() (all string) {
	if l.filter.Used != "" && l.order.column != "used_on" {
		all += l.usedThen()
	}
	if !l.filter.Since.IsZero() && l.order.column != "connected_at" {
		all += l.connectedSince()
	}
	return all
}

// place is where in the order the page may be: after the cursor, within what is asked of the day of use or of
// connecting and, in the order of health, where the asked states of health stand together.
func (l *list) place() (all string) {
	if l.filter.Used != "" && l.order.column == "used_on" {
		all += l.usedThen()
	}
	if !l.filter.Since.IsZero() && l.order.column == "connected_at" {
		all += l.connectedSince()
	}
	if l.key != nil {
		compare := ">"
		if l.direction() == "DESC" {
			compare = "<"
		}
		all += ` AND (c.` + l.order.column + `, c.id) ` + compare + ` (` + l.arg(*l.key) + `::text::` + l.order.kind + `, ` + l.arg(l.id) + `)`
	}
	if l.order.column == "health_order" && l.facets != nil {
		// Other states of health stand together in this order and need not be walked through.
		low, high := int64(9), int64(0)
		for _, f := range l.facets {
			rank := map[string]int64{ActionNeeded: 1, Retrying: 2, Fine: 3, Disconnected: 4}[Connection{}.inState(f.state).Health()]
			low, high = min(low, rank), max(high, rank)
		}
		all += fmt.Sprintf(` AND c.health_order >= %d AND c.health_order < %d`, low*1_000_000_000_000, (high+1)*1_000_000_000_000)
	}
	return all
}

func (l *list) ofMerchant() string {
	if l.filter.Merchant == (ID{}) {
		return ""
	}
	return ` AND c.merchant_id = ` + l.arg(l.filter.Merchant)
}

// words are what must be found of a connection c that is at hand; "true" when nothing is searched.
func (l *list) words() string {
	if len(l.terms) == 0 {
		return "true"
	}
	return `(SELECT ` + l.contains("f") + ` FROM finds f WHERE f.id = c.id)`
}

// contains judges one row of finds, said so that no index is used.
func (l *list) contains(finds string) string {
	return l.each(func(word string) string { return `strpos(` + finds + `.words, ` + l.arg(word) + `) > 0` })
}

// like says the same of finds f so that the index of trigrams answers it.
func (l *list) like() string {
	return l.each(func(word string) string {
		if part := l.rarest[word]; part != "" {
			return `(f.words LIKE ` + l.arg(contains(part)) + ` AND strpos(f.words, ` + l.arg(word) + `) > 0)`
		}
		return `f.words LIKE ` + l.arg(contains(word))
	})
}

// each joins the conditions on words: one of each term's must hold.
func (l *list) each(condition func(word string) string) string {
	var all []string
	for _, t := range l.terms {
		var some []string
		for _, word := range t {
			some = append(some, condition(word))
		}
		all = append(all, `(`+strings.Join(some, ` OR `)+`)`)
	}
	return strings.Join(all, " AND ")
}

// inFacets, usedThen and connectedSince are conditions on a row c; each begins with AND.
func (l *list) inFacets() string {
	if l.facets == nil {
		return ""
	}
	p, e, s := l.sides()
	if s == nil {
		return ` AND c.provider = ANY(` + l.arg(p) + `) AND c.environment = ANY(` + l.arg(e) + `)`
	}
	if len(p)*len(e)*len(s) == len(l.facets) {
		return ` AND c.provider = ANY(` + l.arg(p) + `) AND c.environment = ANY(` + l.arg(e) + `) AND c.state = ANY(` + l.arg(s) + `)`
	}
	var all []string
	for _, f := range l.facets {
		all = append(all, f.provider+" "+f.environment+" "+f.state)
	}
	return ` AND c.provider || ' ' || c.environment || ' ' || c.state = ANY(` + l.arg(all) + `)`
}

func (l *list) usedThen() string {
	days := map[string]int{UsedDay: 1, UsedWeek: 7, UsedMonth: 30}[l.filter.Used]
	if days == 0 {
		return ` AND c.used_on = '1970-01-01'`
	}
	return ` AND c.used_on >= '` + l.now.AddDate(0, 0, -days).Format(time.DateOnly) + `'`
}

func (l *list) connectedSince() string { return ` AND c.connected_at >= ` + l.arg(l.filter.Since) }

// sides are the facets' providers, environments and states. The states are nil when the facets are all that those
// providers have in those environments.
func (l *list) sides() (providers, environments, inStates []string) {
	p, e, s := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, f := range l.facets {
		p[f.provider], e[f.environment], s[f.state] = true, true, true
	}
	providers, environments, inStates = slices.Sorted(maps.Keys(p)), slices.Sorted(maps.Keys(e)), slices.Sorted(maps.Keys(s))
	if len(p)*len(e)*len(states()) == len(l.facets) {
		inStates = nil
	}
	return providers, environments, inStates
}

func (l *list) tail(key, id string) string {
	return l.order.by(key, id, l.direction()) + ` LIMIT ` + strconv.Itoa(l.limit+1)
}

func (order) by(key, id, direction string) string {
	return ` ORDER BY ` + key + ` ` + direction + `, ` + id + ` ` + direction
}

func (l *list) direction() string {
	if l.descending != l.back {
		return "DESC"
	}
	return "ASC"
}

func (l *list) arg(v any) string {
	l.args = append(l.args, v)
	return "$" + strconv.Itoa(len(l.args))
}
