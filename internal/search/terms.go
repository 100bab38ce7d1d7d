package search

import (
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A term is one word of a query, folded, or several of which one must be found.
type term []string

// termsOf splits a folded query.
func termsOf(folded string) (all []term) {
	words := strings.Fields(folded)
	if isPhoneNumber(words) {
		words = []string{strings.Join(words, "")}
	}
	for _, word := range words {
		if word = strings.TrimFunc(word, func(r rune) bool { return unicode.IsPunct(r) && r != '@' }); word != "" {
			all = append(all, append(term{word}, spellings(word)...))
		}
	}
	return all
}

// indexed reports whether a trigram index finds the term: each of its words has three letters or more in a row.
func (t term) indexed() bool {
	return !slices.ContainsFunc(t, func(word string) bool {
		return !slices.ContainsFunc(strings.FieldsFunc(word, notAlphanumeric), func(run string) bool { return utf8.RuneCountInString(run) >= 3 })
	})
}

// selectivePart returns the part of a word that few others have: of an e-mail address what is before the domain; of a long Khmer name,
// which has no spaces, the middle, since names begin and end alike. The index has fewer and shorter lists to intersect for it.
func selectivePart(word string) string {
	if user, _, isEmail := strings.Cut(word, "@"); isEmail && (term{user}).indexed() {
		return user
	}
	if letters := []rune(word); len(letters) > 18 && strings.ContainsFunc(word, isKhmer) {
		return string(letters[len(letters)/3 : len(letters)/3+10])
	}
	return word
}

func notAlphanumeric(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
}

func (t term) regexp() string {
	var words []string
	for _, word := range t {
		words = append(words, regexp.QuoteMeta(word))
	}
	return strings.Join(words, "|")
}

// Text returns what a connection is found by, of its account's id, name and details: in lower case, and numbers also
// without the punctuation in them. JSON that a provider sent (Flexiti's form_values) is left out, and words too long to be
// typed (a logo), which would fill the index.
func Text(values ...string) string {
	var words []string
	for _, value := range values {
		if !strings.HasPrefix(value, "{") && !strings.HasPrefix(value, "[") && !slices.Contains(words, value) {
			words = append(words, value)
		}
	}
	for _, value := range words {
		if number := unpunctuated(value); number != "" && !strings.Contains(value, number) {
			words = append(words, number)
		}
	}
	text := slices.DeleteFunc(strings.Fields(strings.ToLower(strings.Join(words, " "))), func(word string) bool { return utf8.RuneCountInString(word) > 600 })
	return strings.Join(text[:min(len(text), 2000)], " ")
}

// unpunctuated returns a telephone number or a tax number (`K001-3333333`) without the punctuation and spaces in it; "" for
// a text that is no number of seven digits or more.
func unpunctuated(value string) string {
	if _, err := time.Parse(time.DateOnly, value); err == nil || utf8.RuneCountInString(value) > 40 {
		return ""
	}
	var number strings.Builder
	digits, letters := 0, 0
	for _, r := range value {
		switch {
		case unicode.IsDigit(r):
			digits++
		case unicode.IsLetter(r):
			letters++
		case strings.ContainsRune(" +-./()", r):
			continue
		default:
			return ""
		}
		number.WriteRune(r)
	}
	if digits < 7 || letters > 2 {
		return ""
	}
	return number.String()
}

// isPhoneNumber reports whether words are the groups of digits of one telephone number: `+855 12 345 678`, `012 345 678`.
func isPhoneNumber(words []string) bool {
	whole := strings.Join(words, "")
	digits := 0
	for _, r := range whole {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case !strings.ContainsRune("+-./()", r):
			return false
		}
	}
	tooLong := func(word string) bool { return utf8.RuneCountInString(word) > 7 }
	return len(words) > 1 && digits >= 7 && digits <= 15 && !slices.ContainsFunc(words, tooLong) &&
		(strings.HasPrefix(whole, "+") || strings.HasPrefix(whole, "(") || strings.HasPrefix(whole, "0") || strings.HasPrefix(whole, "855"))
}

// spellings returns the other ways in which a number is written: without punctuation, and a telephone number without its
// prefix, which is 0 at home and 855 from abroad.
func spellings(word string) (others []string) {
	number := unpunctuated(word)
	if number == "" {
		return nil
	}
	if number != word {
		others = append(others, number)
	}
	national := strings.TrimPrefix(number, "00")
	for _, prefix := range []string{"855", "0"} {
		national = strings.TrimPrefix(national, prefix)
	}
	if national != number && len(national) >= 7 {
		others = append(others, national)
	}
	return others
}
