package db

import (
	"context"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// corrected puts words from the dictionary in the place of mistyped ones: those one slip of the finger away, else those
// that are most alike. nil when there is nothing to correct or nothing like it.
func corrected(ctx context.Context, q pg.Querier, terms []term) ([]term, error) {
	var better []term
	changed := false
	for _, t := range terms {
		word := t[0]
		if !correctable(word) {
			better = append(better, t)
			continue
		}
		var known bool
		if err := q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM words WHERE word LIKE $1)`, pg.Contains(word)).Scan(&known); err != nil {
			return nil, err
		}
		if known {
			better = append(better, t)
			continue
		}
		similar, err := similarWords(ctx, q, word)
		if err != nil {
			return nil, err
		}
		if len(similar) == 0 {
			return nil, nil
		}
		better, changed = append(better, similar), true
	}
	if !changed {
		return nil, nil
	}
	return better, nil
}

// correctable says whether a word can stand in the dictionary. The SQL function words_of says the same.
func correctable(word string) bool {
	if strings.ContainsFunc(word, func(r rune) bool { return unicode.IsPunct(r) || unicode.IsSymbol(r) }) {
		return false
	}
	letters := len([]rune(word))
	numbered := strings.ContainsFunc(word, unicode.IsDigit) && !strings.ContainsFunc(word, isKhmer)
	return letters >= 4 && strings.ContainsFunc(word, unicode.IsLetter) && (letters <= 8 || !numbered)
}

func isKhmer(r rune) bool { return unicode.In(r, unicode.Khmer) }

func similarWords(ctx context.Context, q pg.Querier, word string) (term, error) {
	swapped, others := slips(word)
	for _, slipped := range [][]string{swapped, others} {
		rows, err := q.Query(ctx, `SELECT word FROM words WHERE word = ANY($1) ORDER BY similarity(word, $2) DESC, word LIMIT 4`, slipped, word)
		if err != nil {
			return nil, err
		}
		if found, err := pgx.CollectRows(rows, pgx.RowTo[string]); err != nil || len(found) > 0 {
			return found, err
		}
	}
	found, err := slippedWithin(ctx, q, word)
	if err != nil || len(found) > 0 {
		return found, err
	}
	rows, err := q.Query(ctx, `SELECT word FROM words WHERE word % $1 ORDER BY similarity(word, $1) DESC, word LIMIT 8`, word)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// slippedWithin looks for a part of a longer word, as is typed of Khmer names, which have no spaces: one slip leaves one
// half of what was typed whole, and by that the index finds it.
func slippedWithin(ctx context.Context, q pg.Querier, typed string) (term, error) {
	letters := []rune(typed)
	half := len(letters) / 2
	if half < 3 || len(letters) > 60 {
		return nil, nil
	}
	rows, err := q.Query(ctx, `SELECT word FROM words WHERE word LIKE $1 OR word LIKE $2 LIMIT 1000`, pg.Contains(string(letters[:half])), pg.Contains(string(letters[half:])))
	if err != nil {
		return nil, err
	}
	candidates, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	allowed := 1
	if len(letters) >= 8 {
		allowed = 2
	}
	var found term
	for slips := 1; slips <= allowed; slips++ {
		for _, word := range candidates {
			if len(found) < 8 && slipsWithin(letters, []rune(word)) == slips {
				found = append(found, word)
			}
		}
	}
	return found, nil
}

// slipsWithin is the least number of letters to put in, leave out or exchange for typed to stand somewhere in word
// (Sellers, 1980).
func slipsWithin(typed, word []rune) int {
	column := make([]int, len(typed)+1)
	for i := range column {
		column[i] = i
	}
	least := len(typed)
	for _, letter := range word {
		diagonal := column[0] // it may begin anywhere: the first row stays 0
		for i, t := range typed {
			exchanged := diagonal
			if t != letter {
				exchanged++
			}
			diagonal = column[i+1]
			column[i+1] = min(exchanged, column[i+1]+1, column[i]+1)
		}
		least = min(least, column[len(typed)])
	}
	return least
}

// slips are what a word may have been before two neighbours were swapped, which fingers do most, or before one letter was
// left out, added or exchanged.
func slips(word string) (swapped, others []string) {
	letters := []rune(word)
	if len(letters) > 24 {
		return []string{}, []string{}
	}
	alphabet := []rune("abcdefghijklmnopqrstuvwxyz0123456789")
	if strings.ContainsFunc(word, isKhmer) {
		alphabet = alphabet[:0]
		for r := 'ក'; r <= 'ៈ'; r++ {
			alphabet = append(alphabet, r)
		}
	}
	with := func(from, to int, between ...rune) {
		others = append(others, string(slices.Concat(letters[:from], between, letters[to:])))
	}
	for i := range letters {
		with(i, i+1)
		if i+1 < len(letters) {
			swapped = append(swapped, string(slices.Concat(letters[:i], []rune{letters[i+1], letters[i]}, letters[i+2:])))
		}
		for _, r := range alphabet {
			with(i, i+1, r)
			with(i, i, r)
		}
	}
	for _, r := range alphabet {
		with(len(letters), len(letters), r)
	}
	return swapped, others
}
