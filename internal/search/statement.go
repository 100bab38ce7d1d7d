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
	if small := s.smallSource(); small != "" {
		return s.read(ctx, small+s.documentMatches()+s.filters("c")+s.after())
	}
	from, all := s.walk()
	found, err := s.read(ctx, from)
	if err != nil || all || len(found) > s.limit || s.total <= int64(s.most(walkedLookups)) || len(s.terms) > 0 && !slices.ContainsFunc(s.terms, term.indexed) {
		return found, err
	}
	return s.read(ctx, s.gather())
}

// read reads the first rows of a FROM clause whose connections are called c.
func (s *search) read(ctx context.Context, from string) ([]row, error) {
	args := append([]any{pg.PlanWithArguments}, s.args...)
	s.args = nil
	return pg.Collect(ctx, s.q, "read ids", func(r pgx.CollectableRow) (row, error) {
		var one row
		return one, r.Scan(&one.id, &one.key)
	}, `SELECT c.id, `+s.order.Key+`::text FROM `+from+s.order.OrderBy(s.from)+` LIMIT `+strconv.Itoa(s.limit+1), args...)
}

// allRows returns a FROM clause that reads all rows of a statement before they are sorted. Without OFFSET, Postgres would walk the order in
// search of them when it takes them for more than they are.
func allRows(statement string) string { return `(` + statement + ` OFFSET 0) AS c WHERE true` }

// smallSource returns how the rows are read when the filter shows so few that all are looked at; "" otherwise.
func (s *search) smallSource() string {
	f := s.filter
	ofMerchant := ""
	if f.Merchant != (pg.ID{}) {
		ofMerchant = ` AND c.merchant_id = ` + s.args.Add(f.Merchant)
	}
	switch {
	case f.Only != nil:
		only := s.args.Add(f.Only)
		return allRows(`SELECT * FROM connections c WHERE (c.id = ANY(` + only + `) OR c.merchant_id = ANY(` + only + `))` + ofMerchant)
	case f.Bulk != pg.ID{}:
		return allRows(`SELECT c.* FROM bulk_items i JOIN connections c ON c.id = i.connection_id
			WHERE i.bulk_id = ` + s.args.Add(f.Bulk) + ` AND i.outcome = ` + s.args.Add(f.Outcome) + ofMerchant)
	case f.Lapsing:
		names, environments := f.Providers.Reconnecting()
		return `(SELECT c.*, g.refresh_expires_at FROM grants g JOIN connections c ON c.id = g.connection_id WHERE ` +
			status.MustReconnect(s.args.Add(s.now), s.args.Add(s.now.AddDate(0, 0, LapsingDays)), s.args.Add(names), s.args.Add(environments)) + ofMerchant +
			`) AS c WHERE true` // there is an index of the ends of access
	case f.Merchant != pg.ID{} && s.order.Key == "c.connected_at":
		return `connections c WHERE true` + ofMerchant // there is an index of a merchant's connections in this order
	case f.Merchant != pg.ID{}:
		return allRows(`SELECT * FROM connections c WHERE true` + ofMerchant)
	}
	return ""
}

// walk returns how the beginning of the order is read, and whether that is all that the filter shows. Rows of facets are walked by
// themselves when they are few: less than a quarter of all, below which the order has too many others between them.
func (s *search) walk() (from string, all bool) {
	most := s.most(walked)
	if len(s.terms) > 0 {
		most = s.most(walkedLookups)
	}
	byFacets := s.facets != nil && (s.shown <= int64(most) || s.hasFacetIndex() && s.shown < s.total/4)
	switch {
	case byFacets && len(s.terms) == 0:
		return s.facetRows(s.limit + 1), true
	case byFacets:
		return s.firstRows(most, `SELECT c.* FROM `+s.facetRows(most)) + s.documentMatches(), s.shown <= int64(most)
	case len(s.terms) > 0 && s.inDocuments():
		return s.firstRows(s.most(walked), `SELECT * FROM search_documents c WHERE true`+s.after()) + ` AND ` + s.matchesRow("c") + s.connectionMatches(), false
	}
	filters := s.filters("c")
	return s.firstRows(most, `SELECT * FROM connections c WHERE true`+s.after()) + filters + s.documentMatches(), filters == "" && len(s.terms) == 0
}

// most is how many rows are walked: more for the long pages of an export than for those that people read.
func (s *search) most(walked int) int { return max(walked, 16*(s.limit+1)) }

// firstRows returns how the first rows of a statement are read, in the order asked for.
func (s *search) firstRows(n int, statement string) string {
	return `(` + statement + s.order.OrderBy(s.from) + ` LIMIT ` + strconv.Itoa(n) + `) AS c WHERE true`
}

// gather returns how all rows are read that match.
func (s *search) gather() string {
	switch {
	case len(s.terms) > 0 && s.inDocuments():
		return allRows(`SELECT * FROM search_documents c WHERE `+s.foundByIndex("c")+s.after()) + s.connectionMatches()
	case len(s.terms) > 0:
		return allRows(`SELECT c.* FROM search_documents d JOIN connections c ON c.id = d.id WHERE `+s.foundByIndex("d")+s.after()) + s.filters("c")
	case s.facets != nil:
		return s.facetRows(s.limit + 1)
	}
	return allRows(`SELECT * FROM connections c WHERE true` + s.filters("c") + s.after())
}

// facetRows returns how the connections of the facets are read, the first of each where there is an index of a facet's
// connections in the order asked for, otherwise all.
func (s *search) facetRows(first int) string {
	each := `SELECT * FROM connections c WHERE c.provider = f.p AND c.environment = f.e AND c.state = f.s` + s.dates("c", false) + s.after()
	if s.hasFacetIndex() {
		each = `(` + each + s.order.OrderBy(s.from) + ` LIMIT ` + strconv.Itoa(first) + `) AS c WHERE true`
	} else {
		each = allRows(each)
	}
	return s.facetTable() + ` CROSS JOIN LATERAL ` + each
}

func (s *search) hasFacetIndex() bool {
	return s.order.Key == "c.connected_at" || s.order.Key == "c.account_key"
}

// inDocuments reports whether documents have the order's key.
func (s *search) inDocuments() bool {
	return s.order.Key != "c.used_on" && s.order.Key != "c.health_order"
}

// contains and containsByIndex are two ways of finding a term: in a row that is at hand, and by the index.
func contains(s *search, column string, t term) string {
	var any []string
	for _, word := range t {
		any = append(any, `strpos(`+column+`, `+s.args.Add(word)+`) > 0`)
	}
	return `(` + strings.Join(any, ` OR `) + `)`
}

func containsByIndex(s *search, column string, t term) string {
	switch {
	case !t.indexed():
		return contains(s, column, t)
	case len(t) > 1:
		// One condition for all, so that a single scan of the index intersects them with the other terms.
		return column + ` ~ ` + s.args.Add(t.regexp())
	}
	if part := selectivePart(t[0]); part != t[0] {
		return column + ` LIKE ` + s.args.Add(pg.Contains(part)) + ` AND ` + contains(s, column, t)
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

// documentMatches is the condition, which begins with AND, that the document of a connection c matches; connectionMatches, that the connection
// of a document c is what the filter shows. As subqueries they are looked up one by one, for rows that nothing else rules out.
func (s *search) documentMatches() string {
	if len(s.terms) == 0 {
		return ""
	}
	return ` AND (SELECT ` + s.matchesRow("d") + ` FROM search_documents d WHERE d.id = c.id)`
}

func (s *search) connectionMatches() (where string) {
	if s.facets != nil {
		where = ` AND (c.provider, c.environment) IN (SELECT f.p, f.e FROM ` + s.facetTable() + `)`
	}
	if !s.filter.byStatus() && s.filter.Used == "" {
		return where + s.dates("c", false) // documents have all of it
	}
	return where + ` AND (SELECT true` + s.filters("k") + ` FROM connections k WHERE k.id = c.id)`
}

// matchesRow is the condition that a document at hand matches, or a user of its merchant.
func (s *search) matchesRow(document string) string {
	found := s.matches(document, contains)
	if merchants := s.merchantsOfUsers(); merchants != "" {
		found = `(` + found + ` OR ` + document + `.merchant_id IN (` + merchants + `))`
	}
	return found
}

// foundByIndex is the same condition for all documents, which indexes find.
func (s *search) foundByIndex(document string) string {
	found := s.matches(document, containsByIndex)
	if merchants := s.merchantsOfUsers(); merchants != "" {
		found = `(` + found + ` OR ` + document + `.merchant_id = ANY(ARRAY(` + merchants + `)))`
	}
	return found
}

// merchantsOfUsers selects the merchants of the users who are called by at least one of the terms, the others being found with them or
// in what their merchant is called; "" when no term is long enough for the index.
func (s *search) merchantsOfUsers() string {
	if !slices.ContainsFunc(s.terms, term.indexed) {
		return ""
	}
	var some, all []string
	for _, t := range s.terms {
		if t.indexed() {
			some = append(some, `(`+containsByIndex(s, `u.words`, t)+`)`)
		}
		all = append(all, contains(s, `u.words || ' ' || m.words`, t))
	}
	return `SELECT m.id FROM users u JOIN merchants m ON m.id = u.merchant_id WHERE (` + strings.Join(some, ` OR `) + `) AND ` + strings.Join(all, ` AND `)
}

// after is the condition, which begins with AND, that keeps the order to where the page may be: after the cursor, within the
// asked days of use or of connecting and, in the order of health, where the asked healths stand together.
func (s *search) after() string {
	place := s.order.After(s.from, s.args.Add) + s.dates("c", true)
	if s.order.Key == "c.health_order" && s.facets != nil {
		low, high := int64(math.MaxInt64), int64(0)
		for _, f := range s.facets {
			first, end := status.HealthOf(f.state).Orders()
			low, high = min(low, first), max(high, end)
		}
		place += fmt.Sprintf(` AND c.health_order >= %d AND c.health_order < %d`, low, high)
	}
	return place
}

// filters is the condition, which begins with AND, that a connection is what the filter shows, beside its place in the order and its words.
func (s *search) filters(connection string) string {
	where := s.dates(connection, false)
	if s.facets != nil {
		where += fmt.Sprintf(` AND (%[1]s.provider, %[1]s.environment, %[1]s.state) IN (SELECT f.p, f.e, f.s FROM %[2]s)`, connection, s.facetTable())
	}
	return where
}

// dates is the condition, which begins with AND, on when a connection was used or made: the one that the order is by, or the others.
func (s *search) dates(connection string, ordered bool) (where string) {
	if f := s.filter; f.Used != "" && ordered == (s.order.Key == "c.used_on") {
		if days := map[string]int{UsedDay: 1, UsedWeek: 7, UsedMonth: 30}[f.Used]; days > 0 {
			where += ` AND ` + connection + `.used_on >= '` + s.now.AddDate(0, 0, -days).Format(time.DateOnly) + `'`
		} else {
			where += ` AND ` + connection + `.used_on = '1970-01-01'`
		}
	}
	if since := s.filter.Since; !since.IsZero() && ordered == (s.order.Key == "c.connected_at") {
		where += ` AND ` + connection + `.connected_at >= ` + s.args.Add(since)
	}
	return where
}

// facetTable returns the facets as a table f of provider, environment and state (p, e, s).
func (s *search) facetTable() string {
	var p, e, states []string
	for _, f := range s.facets {
		p, e, states = append(p, f.provider), append(e, f.environment), append(states, f.state)
	}
	return `unnest(` + s.args.Add(p) + `::text[], ` + s.args.Add(e) + `::text[], ` + s.args.Add(states) + `::text[]) AS f(p, e, s)`
}
