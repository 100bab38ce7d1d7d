package db

import (
	"context"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
)

// corrected puts words from the dictionary in the place of mistyped ones: those one slip of the finger away, else those
// that are most alike. nil when there is nothing to correct or nothing like it.
func corrected(ctx context.Context, q querier, terms []term) ([]term, error) {
	var better []term
	changed := false
	for _, t := range terms {
		word := t[0]
		if n := len([]rune(word)); n < 4 || !strings.ContainsFunc(word, unicode.IsLetter) || (n > 8 && strings.ContainsFunc(word, unicode.IsDigit)) {
			better = append(better, t)
			continue
		}
		var known bool
		if err := q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM words WHERE word LIKE $1)`, contains(word)).Scan(&known); err != nil {
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

func similarWords(ctx context.Context, q querier, word string) (term, error) {
	rows, err := q.Query(ctx, `SELECT word FROM words WHERE word = ANY($1) ORDER BY similarity(word, $2) DESC, word LIMIT 8`, slips(word), word)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(found) > 0 {
		return found, err
	}
	// The second condition is for a part of a long word, as Khmer names are: they have no spaces.
	rows, err = q.Query(ctx, `SELECT word FROM words WHERE word % $1 OR $1 <% word
		ORDER BY greatest(similarity(word, $1), word_similarity($1, word)) DESC, word LIMIT 8`, word)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// slips are what a word may have been before one letter was left out, added, exchanged or swapped with its neighbour.
func slips(word string) []string {
	letters := []rune(word)
	if len(letters) > 24 {
		return []string{}
	}
	alphabet := []rune("abcdefghijklmnopqrstuvwxyz0123456789")
	if strings.ContainsFunc(word, func(r rune) bool { return unicode.In(r, unicode.Khmer) }) {
		alphabet = alphabet[:0]
		for r := 'ក'; r <= 'ៈ'; r++ {
			alphabet = append(alphabet, r)
		}
	}
	var all []string
	with := func(from, to int, between ...rune) {
		all = append(all, string(slices.Concat(letters[:from], between, letters[to:])))
	}
	for i := range letters {
		with(i, i+1)
		if i+1 < len(letters) {
			with(i, i+2, letters[i+1], letters[i])
		}
		for _, r := range alphabet {
			with(i, i+1, r)
			with(i, i, r)
		}
	}
	for _, r := range alphabet {
		with(len(letters), len(letters), r)
	}
	return all
}
