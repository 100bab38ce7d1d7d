package db

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// CountGrams counts how common each run of four letters is among the connections of the sample, one in 64 of all.
// Searches choose by it what they ask the index for, so it may be a little old: what is found does not depend on it.
func (d *DB) CountGrams(ctx context.Context) error {
	return d.Tx(ctx, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM grams`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO grams (gram, sampled)
			SELECT word, ndoc FROM ts_stat('SELECT search_grams(words, connected_at) FROM finds WHERE sampled') WHERE ndoc >= 4`)
		return err
	})
}

// sampledOf is one in how many rows the sample is.
const sampledOf = 64

// What searching costs, in microseconds, as measured at a million connections.
const (
	entryTime  = 0.055 // an entry of the index's list of rows that have a run
	prefixTime = 0.6   // an entry of the many lists that begin with three letters
	seekTime   = 30.0  // finding one row in a long list
	judgeTime  = 2.5   // looking at the words of a row that the index found
	joinTime   = 8.0   // looking at its connection as well
	walkTime   = 0.1   // the next row of words in their own order
	lookupTime = 3.0   // or in the order of connections
	wordTime   = 0.4   // looking for a word in it
)

// A run is what the index knows of a word: four letters of it, or three; with figures, three that begin some.
type run struct {
	letters string
	at      int     // in the word
	sampled float64 // how many rows of the sample have it
	prefix  bool
}

// asked is how the index of grams is asked for a term: each of its words by its few rarest runs.
type asked struct {
	runs  [][]run // each word's, the one to ask for first first
	level int     // how many of them are asked for; 0: the term is left to be judged
}

const mostRuns = 3

// choose decides what the index is asked for: as many terms, each by as many runs, as make the whole search quickest.
// To intersect with words like "Trading" as well can take the index longer than judging the rows it would leave out.
func (l *list) choose(ctx context.Context) error {
	l.asked, l.guess = nil, 0
	common, err := l.commonRuns(ctx)
	if err != nil {
		return err
	}
	for _, t := range l.terms {
		if one := askFor(t, common); one != nil {
			l.asked = append(l.asked, one)
		}
	}
	for best := l.askTime(); ; {
		var raised *asked
		for _, one := range l.asked {
			if !one.canRaise() {
				continue
			}
			one.level++
			if time := l.askTime(); time < best {
				best, raised = time, one
			}
			one.level--
		}
		if raised == nil {
			break
		}
		raised.level++
	}
	l.guess = l.candidates()
	return nil
}

// commonRuns is how many rows of the sample have each run of the terms, for those that are not rare.
func (l *list) commonRuns(ctx context.Context) (map[string]float64, error) {
	var whole, begun []string
	for _, t := range l.terms {
		for _, word := range t {
			for _, r := range runsOf(word) {
				if r.prefix {
					begun = append(begun, r.letters)
				} else {
					whole = append(whole, r.letters)
				}
			}
		}
	}
	common := map[string]float64{}
	if len(whole)+len(begun) == 0 {
		return common, nil
	}
	rows, err := l.tx.Query(ctx, `SELECT gram, sampled FROM grams WHERE gram = ANY($1)
		UNION ALL SELECT b, (SELECT coalesce(sum(sampled), 0) FROM grams WHERE gram >= b AND gram < b || U&'\+10FFFF') FROM unnest($2::text[]) b`, whole, begun)
	if err != nil {
		return nil, err
	}
	var letters string
	var sampled int64
	_, err = pgx.ForEachRow(rows, []any{&letters, &sampled}, func() error {
		common[letters] = float64(sampled)
		return nil
	})
	return common, err
}

// askFor prepares a term; nil when a word of it is too short for the index.
func askFor(t term, common map[string]float64) *asked {
	one := &asked{}
	for _, word := range t {
		runs := runsOf(word)
		if len(runs) == 0 {
			return nil
		}
		for i := range runs {
			runs[i].sampled = max(common[runs[i].letters], 0.5)
		}
		one.runs = append(one.runs, rarest(runs))
	}
	return one
}

// runsOf are a word's runs, those from its middle first: beginnings and ends are shared by more words.
func runsOf(word string) (all []run) {
	letters := []rune(word)
	switch {
	case len(letters) < 3:
		return nil
	case len(letters) == 3:
		return []run{{letters: word, prefix: strings.ContainsFunc(word, unicode.IsDigit)}}
	}
	last := min(len(letters), 60) - 4
	for at := range last + 1 {
		all = append(all, run{letters: string(letters[at : at+4]), at: at})
	}
	slices.SortStableFunc(all, func(a, b run) int { return abs(2*a.at-last) - abs(2*b.at-last) })
	return all
}

// rarest are the rarest few.
func rarest(runs []run) []run {
	slices.SortStableFunc(runs, func(a, b run) int { return cmp.Compare(a.sampled, b.sampled) })
	return runs[:min(mostRuns, len(runs))]
}

func abs(n int) int { return max(n, -n) }

func (a *asked) canRaise() bool {
	return slices.ContainsFunc(a.runs, func(runs []run) bool { return len(runs) > a.level })
}

// leaves is what part of the rows that have another run of a word, no more common, have this one too, roughly: figures
// follow each other freely; letters that are as common as those beside them are mostly in the same words.
func (r run) leaves(other run) float64 {
	switch {
	case strings.ContainsFunc(r.letters, unicode.IsDigit):
		return 0.1
	case r.sampled < 1.2*other.sampled:
		return 1
	}
	return 0.6
}

// candidates is how many rows of the sample the index leaves to be judged, if words were independent.
func (l *list) candidates() float64 {
	all := float64(l.total) / sampledOf
	left := all
	for _, one := range l.asked {
		if one.level == 0 {
			continue
		}
		have := 0.0
		for _, runs := range one.runs {
			left := runs[0].sampled
			for i, r := range runs[1:min(one.level, len(runs))] {
				left *= r.leaves(runs[i])
			}
			have += left
		}
		left *= min(1, have/max(all, 1))
	}
	return left
}

// askTime is how long it takes the index to find the candidates, and Postgres to judge them.
func (l *list) askTime() float64 {
	list := l.listTime()
	if list == 0 {
		return math.Inf(1) // nothing is asked for
	}
	return list + judgeTime*l.candidates()*sampledOf
}

// listTime is how long it takes the index to find the candidates.
func (l *list) listTime() (time float64) {
	left := l.candidates()
	for _, one := range l.asked {
		for _, runs := range one.runs {
			for _, r := range runs[:min(one.level, len(runs))] {
				if r.prefix {
					time += prefixTime * r.sampled * sampledOf
				} else {
					time += min(entryTime*r.sampled, max(left, 0.02)*seekTime) * sampledOf
				}
			}
		}
	}
	return time
}

// like says of finds f what contains says, so that the index of grams finds the rows that are judged.
func (l *list) like() string { return l.found() + ` AND ` + l.contains("f") }

// found is what the index is asked for.
func (l *list) found() string {
	var all, together []string // the index intersects single words itself
	for _, one := range l.asked {
		if one.level == 0 {
			continue
		}
		var some []string
		for _, runs := range one.runs {
			var query []string
			if l.weeks != "" {
				query = append(query, l.weeks)
			}
			for _, r := range runs[:min(one.level, len(runs))] {
				query = append(query, r.query())
			}
			some = append(some, strings.Join(query, ` & `))
		}
		if len(some) == 1 {
			together = append(together, some[0])
			continue
		}
		for i := range some {
			some[i] = `search_grams(f.words, f.connected_at) @@ ` + l.arg(some[i]) + `::tsquery`
		}
		all = append(all, `(`+strings.Join(some, ` OR `)+`)`)
	}
	if together != nil {
		all = append(all, `search_grams(f.words, f.connected_at) @@ `+l.arg(strings.Join(together, ` & `))+`::tsquery`)
	}
	return strings.Join(all, ` AND `)
}

// query is a run in the words of tsquery.
func (r run) query() string {
	lexeme := `'` + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(r.letters) + `'`
	if r.prefix {
		return lexeme + `:*`
	}
	return lexeme
}

// sample says how many rows of the sample the index finds, and how many of those match.
func (l *list) sample(ctx context.Context) (found, matching float64, err error) {
	if len(l.terms) == 1 && len(l.terms[0]) == 1 && utf8.RuneCountInString(l.terms[0][0]) <= 4 {
		return l.guess, l.guess, nil // the word is its run
	}
	const most = 200
	asked := *l
	asked.args = nil
	err = l.tx.QueryRow(ctx, `SELECT count(*)::float8, count(*) FILTER (WHERE `+asked.contains("f")+`)::float8
		FROM (SELECT words FROM finds f WHERE f.sampled AND `+asked.found()+` LIMIT `+strconv.Itoa(most)+`) AS f`, asked.args...).Scan(&found, &matching)
	if found == most && l.guess > most {
		found, matching = l.guess, matching*l.guess/most
	}
	return found, max(matching, 0.5), err
}

// gathers says whether it is quicker to gather all that match and sort them than to walk through the order until a page of
// them is met, when the index finds so many rows of the sample of which so many match.
func (l *list) gathers(found, matching float64) bool {
	look, step := joinTime-judgeTime, lookupTime
	if l.plain() {
		look = 0
		if l.order.column == "connected_at" {
			step = walkTime
		}
	}
	step += wordTime * float64(len(l.terms[0])) // mostly the first is not there
	if l.order.column == "merchant_key" {
		// One merchant's connections have the merchant's words in common and stand together in this order: a walk may meet
		// none of them for long.
		step *= 4
	}
	if l.byWeeks(matching) {
		found = found / matching * l.pageSampled() * 2
	}
	gathering := l.listTime() + (found*judgeTime+matching*look)*sampledOf
	return gathering <= step*float64(l.limit+1)*float64(l.total)/(matching*sampledOf)
}

// pageSampled is so many matching rows of the sample that a page of lines is among the rows they stand for.
func (l *list) pageSampled() float64 {
	return float64(4*(l.limit+1)) / sampledOf * float64(l.total) / max(float64(l.counted()), 1)
}

// byWeeks says whether a page can be gathered from some weeks alone, when so many rows of the sample match.
func (l *list) byWeeks(matching float64) bool {
	return l.plain() && l.order.column == "connected_at" && !l.gather && matching > 3*l.pageSampled()
}

// findWeeks keeps what is asked of the index to the weeks, from the place in the order on, in which so many rows of the sample
// match that a page is there. When they are many, nothing is gained.
func (l *list) findWeeks(ctx context.Context) error {
	asked := *l
	asked.args = nil
	var last time.Time
	err := l.tx.QueryRow(ctx, `SELECT connected_at FROM finds f WHERE f.sampled AND `+asked.like()+strings.ReplaceAll(asked.place(), "c.", "f.")+
		` ORDER BY connected_at `+l.direction()+` OFFSET `+strconv.Itoa(int(l.pageSampled()))+` LIMIT 1`, asked.args...).Scan(&last)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil // the last pages
	}
	if err != nil {
		return err
	}
	first := l.now.AddDate(0, 0, 7) // whatever clocks say
	if l.key != nil {
		if first, err = time.Parse(timestampKey, *l.key); err != nil {
			return err
		}
	} else if l.direction() == "ASC" {
		return nil
	}
	const week = 7 * 24 * 60 * 60
	from, to := min(first.Unix(), last.Unix())/week, max(first.Unix(), last.Unix())/week
	if to-from >= 12 {
		return nil
	}
	var all []string
	for w := from; w <= to; w++ {
		all = append(all, run{letters: "week " + strconv.FormatInt(w, 10)}.query())
	}
	l.weeks = `(` + strings.Join(all, ` | `) + `)`
	return nil
}
