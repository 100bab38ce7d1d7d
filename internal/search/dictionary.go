package search

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"patchbay/internal/pg"
)

// AddWords adds the words of a text to the dictionary, in the caller's transaction.
func AddWords(ctx context.Context, q pg.Querier, text string) error {
	_, err := pg.Exec(ctx, q, "add words", `INSERT INTO search_words (word) SELECT search_words_of(search_fold($1)) ON CONFLICT DO NOTHING`, text)
	return err
}

// unusedWords selects the words that no text has. A common one is in one of the first few thousand, whose words are looked at first: to ask the
// index for it takes long.
const unusedWords = `SELECT w FROM unnest($1::text[]) AS w
	WHERE w NOT IN (SELECT known FROM (SELECT words FROM search_documents LIMIT 2000) AS few, search_words_of(few.words) AS known)
		AND NOT EXISTS (SELECT FROM search_documents d WHERE d.words ~ ('(^|[^[:alnum:]])' || w || '([^[:alnum:]]|$)'))
		AND NOT EXISTS (SELECT FROM users u WHERE u.words ~ ('(^|[^[:alnum:]])' || w || '([^[:alnum:]]|$)'))`

// Forget takes words out of the dictionary that texts have lost and no other has, a few hundred at a time. more is false once there are none.
// Triggers note what is lost: search_documents_change_words, search_documents_lose_words, users_change_words and users_lose_words.
// Whoever adds words meanwhile waits, so that none is taken out that a text has just got.
func Forget(ctx context.Context, tx pgx.Tx) (more bool, err error) {
	left, err := pg.Collect(ctx, tx, "take words", pgx.RowTo[string], `
		DELETE FROM search_words_left WHERE ctid = ANY (ARRAY(SELECT ctid FROM search_words_left LIMIT 500 FOR UPDATE SKIP LOCKED)) RETURNING word`)
	if err != nil || len(left) == 0 {
		return false, err
	}
	slices.Sort(left)
	unused, err := pg.Collect(ctx, tx, "look for words", pgx.RowTo[string], unusedWords, slices.Compact(left))
	if err != nil || len(unused) == 0 {
		return true, err
	}
	if _, err := pg.Exec(ctx, tx, "lock the dictionary", `SET LOCAL lock_timeout = '2s'; LOCK TABLE search_words IN SHARE ROW EXCLUSIVE MODE`, pgx.QueryExecModeSimpleProtocol); err != nil {
		return true, err
	}
	_, err = pg.Exec(ctx, tx, "forget words", `DELETE FROM search_words WHERE word IN (`+unusedWords+`)`, unused)
	return true, err
}

// similarTerms replaces the terms that no word of the dictionary contains by the words that are most like them. It returns
// nil when there is no such term, or nothing like one of them.
func similarTerms(ctx context.Context, q pg.Querier, terms []term) ([]term, error) {
	better := slices.Clone(terms)
	changed := false
	for i, t := range terms {
		// Short words, numbers and ids are not in the dictionary, and not corrected.
		var unknown bool
		if err := q.QueryRow(ctx, `SELECT length($1) >= 4 AND $1 IN (SELECT search_words_of($1)) AND (SELECT count(*) FROM search_words WHERE word LIKE $2 AND strpos(word, $1) > 0) = 0`,
			pg.PlanWithArguments, t[0], pg.Contains(selectivePart(t[0]))).Scan(&unknown); err != nil {
			return nil, fmt.Errorf("look up a word: %w", err)
		}
		if !unknown {
			continue
		}
		similar, err := similarWords(ctx, q, t[0])
		if err != nil || len(similar) == 0 {
			return nil, err
		}
		better[i], changed = similar, true
	}
	if !changed {
		return nil, nil
	}
	return better, nil
}

// similarWords returns the words that are one edit away, or else contain one that is, or else are similar by trigrams.
func similarWords(ctx context.Context, q pg.Querier, word string) (term, error) {
	swaps, edits := neighbours(word)
	for _, candidates := range [][]string{swaps, edits} {
		found, err := readWords(ctx, q, `SELECT word FROM search_words WHERE word = ANY($1) ORDER BY similarity(word, $2) DESC, word LIMIT 4`, candidates, word)
		if err != nil || len(found) > 0 {
			return found, err
		}
	}
	found, err := containing(ctx, q, word)
	if err != nil || len(found) > 0 || strings.ContainsFunc(word, isKhmer) {
		return found, err // Khmer names are long and begin alike: too many of them have trigrams in common
	}
	return readWords(ctx, q, `SELECT word FROM search_words WHERE word % $1 ORDER BY similarity(word, $1) DESC, word LIMIT 8`, word)
}

func readWords(ctx context.Context, q pg.Querier, sql string, args ...any) ([]string, error) {
	return pg.Collect(ctx, q, "read similar words", pgx.RowTo[string], sql, append([]any{pg.PlanWithArguments}, args...)...)
}

// containing returns the words that contain the typed one with a few edits, as a part of a Khmer name does, which has no
// spaces. An edit leaves all but one of the typed word's pieces as they are, and by those the index finds them.
func containing(ctx context.Context, q pg.Querier, typed string) (term, error) {
	letters := []rune(typed)
	n := len(letters)
	if n < 6 || n > 60 {
		return nil, nil
	}
	patterns := []any{pg.Contains(string(letters[:n/2])), pg.Contains(string(letters[n/2:])), ""}
	if n >= 9 {
		first, middle, last := string(letters[:n/3]), string(letters[n/3:2*n/3]), string(letters[2*n/3:])
		patterns = []any{pg.Contains(first + middle), pg.Contains(middle + last), pg.Contains(first) + pg.Contains(last)}
	}
	candidates, err := readWords(ctx, q, `SELECT word FROM search_words WHERE word LIKE $1 OR word LIKE $2 OR word LIKE $3 LIMIT 1000`, patterns...)
	if err != nil {
		return nil, err
	}
	var found term
	for allowed := 1; allowed <= 1+n/8 && allowed <= 2; allowed++ {
		for _, word := range candidates {
			if len(found) < 8 && editsWithin(letters, []rune(word)) == allowed {
				found = append(found, word)
			}
		}
	}
	return found, nil
}

// editsWithin returns the least number of letters to insert, delete or replace for typed to stand somewhere in word
// (Sellers, 1980).
func editsWithin(typed, word []rune) int {
	column := make([]int, len(typed)+1)
	for i := range column {
		column[i] = i
	}
	least := len(typed)
	for _, letter := range word {
		diagonal := column[0] // it may begin anywhere: the first row stays 0
		for i, t := range typed {
			replaced := diagonal
			if t != letter {
				replaced++
			}
			diagonal = column[i+1]
			column[i+1] = min(replaced, column[i+1]+1, column[i]+1)
		}
		least = min(least, column[len(typed)])
	}
	return least
}

// neighbours returns what a word becomes when two letters next to each other are swapped, which happens most in typing, and
// what it becomes when one letter is deleted, replaced or inserted.
func neighbours(word string) (swaps, edits []string) {
	letters := []rune(word)
	if len(letters) > 24 {
		return nil, nil
	}
	alphabet := []rune("abcdefghijklmnopqrstuvwxyz0123456789")
	if strings.ContainsFunc(word, isKhmer) {
		alphabet = alphabet[:0]
		for r := 'ក'; r <= 'ៈ'; r++ {
			alphabet = append(alphabet, r)
		}
	}
	edit := func(from, to int, between ...rune) {
		edits = append(edits, string(slices.Concat(letters[:from], between, letters[to:])))
	}
	for i := range letters {
		edit(i, i+1)
		if i+1 < len(letters) {
			swaps = append(swaps, string(slices.Concat(letters[:i], []rune{letters[i+1], letters[i]}, letters[i+2:])))
		}
		for _, r := range alphabet {
			edit(i, i+1, r)
			edit(i, i, r)
		}
	}
	for _, r := range alphabet {
		edit(len(letters), len(letters), r)
	}
	return swaps, edits
}

func isKhmer(r rune) bool { return unicode.In(r, unicode.Khmer) }
