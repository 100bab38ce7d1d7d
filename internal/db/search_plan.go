package db

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/pg"

	"patchbay/internal/status"
)

// ids is the statement that finds the page's ids and keys.
func (l *list) ids(ctx context.Context) (string, error) {
	found, err := l.byWords(ctx)
	if err != nil || !l.twoWays() {
		return found, err
	}
	return `SELECT id, key FROM ((` + found + `) UNION (` + l.byPeople() + `)) AS found` + l.tail("key", "id"), nil
}

// twoWays says whether what people's merchants have connected is found apart from what the words find, instead of judging
// each row by both.
func (l *list) twoWays() bool {
	return len(l.theirs) > 0 && l.few() == nil && l.filter.Merchant == pg.ID{}
}

// byWords finds the page's ids and keys by the words of the connections and their merchants, where words are searched.
func (l *list) byWords(ctx context.Context) (string, error) {
	rows := l.few()
	if rows == nil {
		var err error
		if rows, err = l.gathered(ctx); err != nil {
			return "", err
		}
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
	case l.plain() && l.order.column == "connected_at":
		return `SELECT c.id, ` + key + ` AS key FROM ` + from("finds", "") + ` AND ` + l.contains("c") + l.inFacets() + l.conditions() + l.tail(key, "c.id"), nil
	// One walk over all is enough where the facets hold a good part of all connections: it meets them soon.
	case l.facets == nil || !l.byFacet() || l.filter.Merchant != (pg.ID{}) || (l.judged() && l.order.column != "account_key" && l.counted()*5 > l.total):
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
	return len(l.terms) > 0 && (l.order.column == "connected_at" || l.order.column == "merchant_key") && l.filter.Used == "" && l.filter.Merchant == pg.ID{} && l.filter.Bulk == pg.ID{} && !l.filter.Lapsing && states == nil
}

// few says how the rows are read of which there cannot be many; nil when it is not that few that are asked for.
func (l *list) few() func(*list) string {
	switch {
	case l.only != nil:
		return func(l *list) string {
			only := l.arg(l.only)
			return `(SELECT * FROM connections c WHERE c.id = ANY(` + only + `) UNION SELECT * FROM connections c WHERE c.merchant_id = ANY(` + only + `)) AS c WHERE ` + l.words() + l.ofMerchant()
		}
	case l.filter.Bulk != pg.ID{}:
		return func(l *list) string {
			return `(SELECT c.* FROM bulk_items i JOIN connections c ON c.id = i.connection_id WHERE i.bulk_id = ` + l.arg(l.filter.Bulk) +
				` AND i.class = ` + l.arg(l.filter.Outcome) + l.ofMerchant() + ` OFFSET 0) AS c WHERE ` + l.words()
		}
	case l.filter.Lapsing:
		return func(l *list) string {
			return `(SELECT c.*, g.refresh_expires_at FROM grants g JOIN connections c ON c.id = g.connection_id
				WHERE g.refresh_fixed AND g.refresh_expires_at > ` + l.arg(l.now) + ` AND g.refresh_expires_at < ` + l.arg(l.now.Add(7*24*time.Hour)) + `
				AND c.disconnected_at IS NULL AND c.problem = ''` + l.ofMerchant() + `) AS c WHERE ` + l.words()
		}
	case l.filter.Merchant != pg.ID{} && l.order.column != "connected_at":
		return func(l *list) string {
			return `(SELECT * FROM connections c WHERE c.merchant_id = ` + l.arg(l.filter.Merchant) + ` OFFSET 0) AS c WHERE ` + l.words()
		}
	}
	return nil
}

// gathered says how the rows that can match are gathered, when they are few; nil when they are not. What is few grows with
// the root of the total: by then gathering m rows costs as much as walking to a page of them, total / m rows for each.
// The OFFSET keeps Postgres from walking the whole order in search of them.
func (l *list) gathered(ctx context.Context) (func(*list) string, error) {
	root := math.Sqrt(float64(l.total))
	walked := 1000 + (l.limit+1)*int(2*root)
	switch {
	case l.filter.Merchant != pg.ID{}:
		l.walked = int(l.total) // there is an index of a merchant's connections in this order
		return nil, nil
	case len(l.terms) > 0:
		if err := l.choose(ctx); err != nil {
			return nil, err
		}
		if len(l.asked) == 0 {
			// Nothing that an index could find: the newest are looked through.
			return func(l *list) string {
				return `(SELECT * FROM connections c ORDER BY c.connected_at DESC, c.id DESC LIMIT 20000) AS c WHERE ` + l.words()
			}, nil
		}
		found, matching, err := l.sample(ctx)
		gather := l.gather || l.gathers(found, matching)
		if err == nil && gather && l.byWeeks(matching) {
			err = l.findWeeks(ctx)
		}
		switch {
		case err != nil:
			return nil, err
		case gather && l.plain():
			return func(l *list) string { return `(SELECT * FROM finds f WHERE ` + l.like() + ` OFFSET 0) AS c WHERE true` }, nil
		case gather:
			return func(l *list) string {
				return `(SELECT f.id FROM finds f WHERE ` + l.like() + ` OFFSET 0) AS f JOIN connections c ON c.id = f.id WHERE true`
			}, nil
		}
		// A page is met after total / matching rows for each of its lines, if they lie evenly.
		walked = 500 + int(3*float64(l.limit+1)*float64(l.total)/(sampledOf*matching))
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
		if l.filter.Lapsing { // its order is of two tables, of which the first has the index
			all += ` AND c.refresh_expires_at ` + compare + `= ` + l.arg(*l.key) + `::text::timestamptz`
		}
		all += ` AND (c.` + l.order.column + `, c.id) ` + compare + ` (` + l.arg(*l.key) + `::text::` + l.order.kind + `, ` + l.arg(l.id) + `)`
	}
	if l.order.column == "health_order" && l.facets != nil {
		// Other states of health stand together in this order and need not be walked through.
		low, high := int64(9), int64(0)
		for _, f := range l.facets {
			rank := status.HealthOf(f.state).Rank()
			low, high = min(low, rank), max(high, rank)
		}
		all += fmt.Sprintf(` AND c.health_order >= %d AND c.health_order < %d`, low*1_000_000_000_000, (high+1)*1_000_000_000_000)
	}
	return all
}

func (l *list) ofMerchant() string {
	if l.filter.Merchant == (pg.ID{}) {
		return ""
	}
	return ` AND c.merchant_id = ` + l.arg(l.filter.Merchant)
}

// words are what must be found of a connection c that is at hand; "true" when nothing is searched.
func (l *list) words() string {
	if len(l.terms) == 0 {
		return "true"
	}
	found := `(SELECT ` + l.contains("f") + ` FROM finds f WHERE f.id = c.id)`
	if len(l.theirs) > 0 && !l.twoWays() {
		return `(` + found + ` OR ` + l.ofThem("c.merchant_id") + `)`
	}
	return found
}

// contains judges one row of finds: one of each term's words must stand in it.
func (l *list) contains(finds string) string {
	return l.each(l.terms, func(word string) string { return `strpos(` + finds + `.words, ` + l.arg(word) + `) > 0` }, ` AND `)
}

// each says of terms that one of their words is as says says, joined by AND or OR.
func (l *list) each(terms []term, says func(word string) string, join string) string {
	var all []string
	for _, t := range terms {
		var some []string
		for _, word := range t {
			some = append(some, says(word))
		}
		all = append(all, `(`+strings.Join(some, ` OR `)+`)`)
	}
	return `(` + strings.Join(all, join) + `)`
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
	if len(p)*len(e)*len(status.States()) == len(l.facets) {
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
