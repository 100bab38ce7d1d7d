package search

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
	"patchbay/internal/status"
)

// row is a connection with its key in the list's order.
type row struct {
	id  pg.ID
	key string
}

// find reads the page's rows and one more, if there is one, by the rule in the package's comment.
func (s *search) find(ctx context.Context) ([]row, error) {
	s.args = nil
	if few := s.few(); few != "" {
		return s.read(ctx, few+s.filters()+s.after()+` AND`+s.lookedUp())
	}
	s.args = nil
	from, walked := s.walk()
	found, err := s.read(ctx, from)
	if err != nil || len(found) > s.limit || walked == 0 || s.total <= int64(walked) || len(s.terms) > 0 && !slices.ContainsFunc(s.terms, term.indexed) {
		return found, err
	}
	s.args = nil
	return s.read(ctx, s.gather())
}

// read reads the first rows of a FROM clause whose connections are called c.
func (s *search) read(ctx context.Context, from string) ([]row, error) {
	return pg.Collect(ctx, s.q, "read ids", func(r pgx.CollectableRow) (row, error) {
		var one row
		return one, r.Scan(&one.id, &one.key)
	}, `SELECT c.id, `+s.order.Key+`::text FROM `+from+s.order.By(s.from)+s.oneMore(), append([]any{pg.PlanWithArguments}, s.args...)...)
}

// few returns how the rows are read when the filter shows so few that all are looked at; "" otherwise.
func (s *search) few() string {
	f := s.filter
	ofMerchant := ""
	if f.Merchant != (pg.ID{}) {
		ofMerchant = ` AND c.merchant_id = ` + s.args.Add(f.Merchant)
	}
	switch {
	case f.Only != nil:
		only := s.args.Add(f.Only)
		return `(SELECT * FROM connections c WHERE (c.id = ANY(` + only + `) OR c.merchant_id = ANY(` + only + `))` + ofMerchant + ` OFFSET 0) AS c WHERE true`
	case f.Bulk != pg.ID{}:
		return `(SELECT c.* FROM bulk_items i JOIN connections c ON c.id = i.connection_id
			WHERE i.bulk_id = ` + s.args.Add(f.Bulk) + ` AND i.outcome = ` + s.args.Add(f.Outcome) + ofMerchant + ` OFFSET 0) AS c WHERE true`
	case f.Lapsing:
		names, environments := f.Providers.Reconnecting()
		return `(SELECT c.*, g.refresh_expires_at FROM grants g JOIN connections c ON c.id = g.connection_id
			WHERE ` + status.MustReconnect(s.args.Add(s.now), s.args.Add(s.now.AddDate(0, 0, LapsingDays)), s.args.Add(names), s.args.Add(environments)) + ofMerchant + ` OFFSET 0) AS c WHERE true`
	case f.Merchant != pg.ID{} && s.order.Key == "c.connected_at":
		return `connections c WHERE true` + ofMerchant // there is an index of a merchant's connections in this order
	case f.Merchant != pg.ID{}:
		return `(SELECT * FROM connections c WHERE true` + ofMerchant + ` OFFSET 0) AS c WHERE true`
	}
	return ""
}

// walk returns how the beginning of the order is read, and how many rows of it at most; 0 when that is all there is to read.
func (s *search) walk() (from string, most int) {
	filtered := s.facets != nil || s.filter.Used != "" && s.order.Key != "c.used_on" || !s.filter.Since.IsZero() && s.order.Key != "c.connected_at"
	switch {
	case len(s.terms) > 0 && s.facets != nil && s.counted() <= walkedDocuments:
		return s.ofFacets(walkedDocuments) + ` WHERE` + s.lookedUp(), 0
	case len(s.terms) > 0 && s.inDocuments():
		return s.first("search_documents", walkedDocuments) + s.filters() + ` AND ` + s.judged("c"), walkedDocuments
	case len(s.terms) > 0 && s.facets != nil && s.hasFacetIndex() && s.counted() < s.total/4:
		return `(SELECT * FROM ` + s.ofFacets(walkedLookups) + s.order.By(s.from) + ` LIMIT ` + strconv.Itoa(walkedLookups) + `) AS c WHERE` + s.lookedUp(), walkedLookups
	case len(s.terms) > 0 && filtered:
		return `(SELECT * FROM ` + s.first("connections", walkedKeys) + s.filters() + s.order.By(s.from) + ` LIMIT ` + strconv.Itoa(walkedLookups) + `) AS c WHERE` + s.lookedUp(), walkedLookups
	case len(s.terms) > 0:
		return s.first("connections", walkedLookups) + ` AND` + s.lookedUp(), walkedLookups
	case filtered:
		return s.first("connections", walkedKeys) + s.filters(), walkedKeys
	}
	return `connections c WHERE true` + s.after(), 0
}

// first returns how the first rows of the order are read.
func (s *search) first(table string, most int) string {
	return `(SELECT * FROM ` + table + ` c WHERE true` + s.after() + s.order.By(s.from) + ` LIMIT ` + strconv.Itoa(most) + `) AS c WHERE true`
}

// gather returns how all rows are read that match. OFFSET keeps Postgres from walking the order in search of them.
func (s *search) gather() string {
	switch {
	case len(s.terms) > 0:
		found := s.matches("d", like)
		if people := s.people(); people != "" {
			found = `(` + found + ` OR d.merchant_id = ANY(ARRAY(` + people + `)))`
		}
		from := `(SELECT * FROM search_documents d WHERE ` + found + ` OFFSET 0) AS `
		if !s.inDocuments() {
			return from + `d CROSS JOIN LATERAL (SELECT * FROM connections c WHERE c.id = d.id OFFSET 0) AS c WHERE true` + s.filters() + s.after()
		}
		return from + `c WHERE true` + s.filters() + s.after()
	case s.facets != nil:
		return s.ofFacets(s.limit+1) + ` WHERE true`
	default:
		return `(SELECT * FROM connections c WHERE true` + s.usedThen() + s.connectedSince() + ` OFFSET 0) AS c WHERE true` + s.after()
	}
}

// ofFacets returns how the connections of the facets are read, the first of each where there is an index of a facet's
// connections in the order asked for, otherwise all.
func (s *search) ofFacets(first int) string {
	from := s.eachFacet() + ` CROSS JOIN LATERAL (SELECT * FROM connections c WHERE c.provider = f.p AND c.environment = f.e AND c.state = f.s` +
		s.usedThen() + s.connectedSince() + s.after()
	if s.hasFacetIndex() {
		return from + s.order.By(s.from) + ` LIMIT ` + strconv.Itoa(first) + `) AS c`
	}
	return from + ` OFFSET 0) AS c`
}

func (s *search) hasFacetIndex() bool {
	return s.order.Key == "c.connected_at" || s.order.Key == "c.account_key"
}

// inDocuments reports whether documents hold all that is filtered and sorted by; connections alone have their state and use.
func (s *search) inDocuments() bool {
	_, _, states := s.sides()
	return states == nil && s.filter.Used == "" && s.order.Key != "c.used_on" && s.order.Key != "c.health_order"
}

// has and like are two ways of finding a term: in a row that is at hand, and by the index.
func has(s *search, column string, t term) string {
	var any []string
	for _, word := range t {
		any = append(any, `strpos(`+column+`, `+s.args.Add(word)+`) > 0`)
	}
	return `(` + strings.Join(any, ` OR `) + `)`
}

func like(s *search, column string, t term) string {
	switch {
	case !t.indexed():
		return has(s, column, t)
	case len(t) > 1:
		// One condition for all, so that a single scan of the index intersects them with the other terms.
		return column + ` ~ ` + s.args.Add(t.regexp())
	}
	if part := telling(t[0]); part != t[0] {
		return column + ` LIKE ` + s.args.Add(pg.Contains(part)) + ` AND ` + has(s, column, t)
	}
	return column + ` LIKE ` + s.args.Add(pg.Contains(t[0]))
}

// matches is the condition that a document has every term, found in one of these ways.
func (s *search) matches(document string, in func(s *search, column string, t term) string) string {
	var all []string
	for _, t := range s.terms {
		all = append(all, in(s, document+`.words`, t))
	}
	return `(` + strings.Join(all, ` AND `) + `)`
}

// lookedUp is the condition that the document of a connection c matches.
func (s *search) lookedUp() string {
	if len(s.terms) == 0 {
		return ` true`
	}
	return ` (SELECT ` + s.judged("d") + ` FROM search_documents d WHERE d.id = c.id)`
}

// judged is the condition that a document at hand matches, or a user of its merchant.
func (s *search) judged(document string) string {
	found := s.matches(document, has)
	if people := s.people(); people != "" {
		found = `(` + found + ` OR ` + document + `.merchant_id IN (` + people + `))`
	}
	return found
}

// people selects the merchants of the users who are called by at least one of the terms, the others being found with them or
// in what their merchant is called; "" when no term is long enough for the index.
func (s *search) people() string {
	if !slices.ContainsFunc(s.terms, term.indexed) {
		return ""
	}
	var some, all []string
	for _, t := range s.terms {
		if t.indexed() {
			some = append(some, `(`+like(s, `u.words`, t)+`)`)
		}
		all = append(all, has(s, `u.words || ' ' || m.words`, t))
	}
	return `SELECT m.id FROM users u JOIN merchants m ON m.id = u.merchant_id WHERE (` + strings.Join(some, ` OR `) + `) AND ` + strings.Join(all, ` AND `)
}

// after is the condition, which begins with AND, that keeps the order to where the page may be: after the cursor, within the
// asked days of use or of connecting and, in the order of health, where the asked healths stand together.
func (s *search) after() string {
	place := s.order.After(s.from, s.args.Add)
	switch s.order.Key {
	case "c.used_on":
		if s.filter.Used != "" {
			place += s.used()
		}
	case "c.connected_at":
		if !s.filter.Since.IsZero() {
			place += s.since()
		}
	case "c.health_order":
		if s.facets != nil {
			low, high := int64(math.MaxInt64), int64(0)
			for _, f := range s.facets {
				first, end := status.HealthOf(f.state).Orders()
				low, high = min(low, first), max(high, end)
			}
			place += fmt.Sprintf(` AND c.health_order >= %d AND c.health_order < %d`, low, high)
		}
	}
	return place
}

// filters is the condition, which begins with AND, that c is what the filter shows, beside its place in the order and its words.
func (s *search) filters() string { return s.inFacets() + s.usedThen() + s.connectedSince() }

// usedThen and connectedSince are conditions that begin with AND; "" where after has them.
func (s *search) usedThen() string {
	if s.filter.Used == "" || s.order.Key == "c.used_on" {
		return ""
	}
	return s.used()
}

func (s *search) connectedSince() string {
	if s.filter.Since.IsZero() || s.order.Key == "c.connected_at" {
		return ""
	}
	return s.since()
}

func (s *search) used() string {
	days := map[string]int{UsedDay: 1, UsedWeek: 7, UsedMonth: 30}[s.filter.Used]
	if days == 0 {
		return ` AND c.used_on = '1970-01-01'`
	}
	return ` AND c.used_on >= '` + s.now.AddDate(0, 0, -days).Format(time.DateOnly) + `'`
}

func (s *search) since() string { return ` AND c.connected_at >= ` + s.args.Add(s.filter.Since) }

// inFacets is the condition, which begins with AND, that c has one of the facets.
func (s *search) inFacets() string {
	if s.facets == nil {
		return ""
	}
	providers, environments, states := s.sides()
	where := ` AND c.provider = ANY(` + s.args.Add(providers) + `) AND c.environment = ANY(` + s.args.Add(environments) + `)`
	switch {
	case states == nil:
		return where
	case len(providers)*len(environments)*len(states) == len(s.facets):
		return where + ` AND c.state = ANY(` + s.args.Add(states) + `)`
	}
	var all []string
	for _, f := range s.facets {
		all = append(all, f.provider+" "+f.environment+" "+f.state)
	}
	return where + ` AND c.provider || ' ' || c.environment || ' ' || c.state = ANY(` + s.args.Add(all) + `)`
}

// eachFacet selects the facets as f(p, e, s).
func (s *search) eachFacet() string {
	var p, e, states []string
	for _, f := range s.facets {
		p, e, states = append(p, f.provider), append(e, f.environment), append(states, f.state)
	}
	return `unnest(` + s.args.Add(p) + `::text[], ` + s.args.Add(e) + `::text[], ` + s.args.Add(states) + `::text[]) AS f(p, e, s)`
}

// sides returns the providers, environments and states of the facets. The states are nil when the facets are all that those
// providers have in those environments.
func (s *search) sides() (providers, environments, states []string) {
	for _, f := range s.facets {
		providers, environments, states = append(providers, f.provider), append(environments, f.environment), append(states, f.state)
	}
	unique := func(all []string) []string {
		slices.Sort(all)
		return slices.Compact(all)
	}
	providers, environments, states = unique(providers), unique(environments), unique(states)
	if len(providers)*len(environments)*len(status.States()) == len(s.facets) {
		states = nil
	}
	return providers, environments, states
}

// oneMore limits a statement to one row more than the page, which tells whether there is another page.
func (s *search) oneMore() string { return ` LIMIT ` + strconv.Itoa(s.limit+1) }
