package db

import (
	"bytes"
	"context"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// findPeople finds the merchants of the people whom the terms name: what those have connected is found as well.
func (l *list) findPeople(ctx context.Context) error {
	l.theirs, l.throng = nil, false
	asked := *l
	asked.args = nil
	named := asked.named()
	if named == "" {
		return nil
	}
	many := l.manyMerchants()
	rows, err := l.tx.Query(ctx, named+` LIMIT `+strconv.Itoa(4*many), asked.args...)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[pg.ID])
	if err != nil {
		return err
	}
	slices.SortFunc(ids, func(a, b pg.ID) int { return bytes.Compare(a[:], b[:]) })
	l.throng = len(ids) == 4*many
	if ids = slices.Compact(ids); len(ids) > many {
		l.throng = true
	}
	l.theirs = ids
	return nil
}

// manyMerchants are so many that a walk in any order soon meets a connection of one of them.
func (l *list) manyMerchants() int { return 10 + int(math.Sqrt(float64(l.total))/10) }

// named selects the merchants of the people whom the terms name, after the first stage some of the terms perhaps by their
// merchant's name. "" when no term is long enough for the index of people's words.
func (l *list) named() string {
	long := slices.DeleteFunc(slices.Clone(l.terms), func(t term) bool {
		return slices.ContainsFunc(t, func(word string) bool { return utf8.RuneCountInString(word) < 3 })
	})
	if len(long) == 0 {
		return ""
	}
	if l.stage == asTyped || len(l.terms) == 1 {
		return `SELECT u.merchant_id FROM users u WHERE u.merchant_id IS NOT NULL AND ` + l.each(l.terms, l.inPerson, ` AND `)
	}
	return `SELECT u.merchant_id FROM users u JOIN merchants m ON m.id = u.merchant_id
		WHERE ` + l.each(long, l.inPerson, ` OR `) + ` AND ` + l.each(l.terms, func(word string) string { return `strpos(u.words || ' ' || m.words, ` + l.arg(word) + `) > 0` }, ` AND `)
}

// inPerson says that a word stands in what a user is called, so that the index of people's words finds the user.
func (l *list) inPerson(word string) string { return `u.words LIKE ` + l.arg(pg.Contains(word)) }

// ofThem says that a merchant is one of those whose people are named.
func (l *list) ofThem(merchant string) string {
	if l.throng {
		return `(` + merchant + ` IN (` + l.named() + `)) IS TRUE` // looked up for each row, not joined
	}
	return merchant + ` = ANY(` + l.arg(l.theirs) + `)`
}

// byPeople finds the page's ids and keys among the connections of the merchants whose people are named: a page of each
// merchant's, or, when they are many, by a walk.
func (l *list) byPeople() string {
	key := "c." + l.order.column
	if l.throng && !l.gather {
		l.walked = max(l.walked, 500+3*(l.limit+1)*100)
		return `SELECT c.id, ` + key + ` AS key FROM (SELECT * FROM connections c WHERE true` + l.place() + l.order.by(key, "c.id", l.direction()) +
			` LIMIT ` + strconv.Itoa(l.walked) + `) AS c WHERE ` + l.ofThem("c.merchant_id") + l.inFacets() + l.conditions() + l.tail(key, "c.id")
	}
	whose := `c.merchant_id = m.id`
	if l.order.column == "merchant_key" {
		// So that the order's index is walked: one merchant may have ten thousand.
		whose = `c.merchant_key BETWEEN left(lower(m.name), 200) AND left(lower(m.name), 200) AND coalesce(c.merchant_id = m.id, false)`
	}
	return `SELECT best.id, best.key FROM (SELECT * FROM merchants m WHERE ` + l.ofThem("m.id") + `) AS m CROSS JOIN LATERAL (SELECT c.id, ` + key + ` AS key FROM connections c WHERE ` + whose +
		l.inFacets() + l.conditions() + l.place() + l.tail(key, "c.id") + `) AS best` + l.tail("best.key", "best.id")
}
