package db

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"patchbay/internal/connectors"
)

// SearchText is what a connection is found by: its account's id, names and facts, in lower case, and numbers also without
// the signs between their figures. Structures that a provider sent (Flexiti's form_values) are left out, and words too
// long to be typed (a logo): nobody searches them and they would fill the index.
func SearchText(a connectors.Account) string {
	words := []string{a.ID, a.Name}
	for _, d := range a.Details {
		if !strings.HasPrefix(d.Value, "{") && !strings.HasPrefix(d.Value, "[") && !slices.Contains(words, d.Value) {
			words = append(words, d.Value)
		}
	}
	for _, value := range words {
		if number := unbroken(value); number != "" && !strings.Contains(value, number) {
			words = append(words, number)
		}
	}
	text := slices.DeleteFunc(strings.Fields(strings.ToLower(strings.Join(words, " "))), func(word string) bool { return len(word) > 600 })
	return strings.Join(text[:min(len(text), 2000)], " ")
}

// unbroken is a number, as of a telephone or a tax payer (`K001-3333333`), without the signs and spaces within; "" for
// what is no number of seven figures or more.
func unbroken(value string) string {
	if _, err := time.Parse(time.DateOnly, value); err == nil || len(value) > 40 {
		return ""
	}
	var number strings.Builder
	figures, letters := 0, 0
	for _, r := range value {
		switch {
		case unicode.IsDigit(r):
			figures++
		case unicode.IsLetter(r):
			letters++
		case strings.ContainsRune(" +-./()", r):
			continue
		default:
			return ""
		}
		number.WriteRune(r)
	}
	if figures < 7 || letters > 2 {
		return ""
	}
	return number.String()
}

// A term is one word of a query, or several of which one must be found. Folded.
type term []string

// termsOf reads a folded query.
func termsOf(folded string) (all []term) {
	words := strings.Fields(folded)
	if spokenInGroups(words) {
		words = []string{strings.Join(words, "")}
	}
	for _, word := range words {
		if word = strings.TrimFunc(word, func(r rune) bool { return unicode.IsPunct(r) && r != '@' }); word != "" {
			all = append(all, append(term{word}, spellings(word)...))
		}
	}
	return all
}

// spokenInGroups says whether words are the groups of figures of one telephone number: `+855 12 345 678`, `012 345 678`.
func spokenInGroups(words []string) bool {
	whole := strings.Join(words, "")
	figures := 0
	for _, r := range whole {
		switch {
		case r >= '0' && r <= '9':
			figures++
		case !strings.ContainsRune("+-./()", r):
			return false
		}
	}
	tooLong := func(word string) bool { return utf8.RuneCountInString(word) > 7 }
	return len(words) > 1 && figures >= 7 && figures <= 15 && !slices.ContainsFunc(words, tooLong) &&
		(strings.HasPrefix(whole, "+") || strings.HasPrefix(whole, "(") || strings.HasPrefix(whole, "0") || strings.HasPrefix(whole, "855"))
}

// spellings are other ways to write a number that is typed: without the signs within, and a telephone's without what is
// dialled before it, which is 0 at home and 855 from abroad.
func spellings(word string) (others []string) {
	number := unbroken(word)
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
