package text

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// Finder marks where the words of a search are in a text, however they are written: in any case, with or without accents and the
// Khmer signs that people leave out, in Khmer or Latin digits, and numbers with or without punctuation and a telephone's prefix. The
// zero Finder finds nothing.
type Finder struct{ words []string } // folded

// Span is a part of a text, in bytes.
type Span struct{ From, To int }

// NewFinder returns what marks the words of query.
func NewFinder(query string) Finder {
	words := strings.FieldsFunc(string(fold(query).runes), isSpace)
	if whole := strings.Join(words, ""); len(words) > 1 && digits(whole) >= 7 && compact(whole) == strings.Map(onlyDigits, whole) {
		words = []string{whole} // the groups of one telephone number
	}
	var f Finder
	for _, word := range words {
		word = strings.TrimFunc(word, func(r rune) bool { return unicode.IsPunct(r) && r != '@' })
		if word != "" && !slices.Contains(f.words, word) {
			f.words = append(f.words, word)
		}
	}
	return f
}

// Words returns the words, folded as they are in the search's documents.
func (f Finder) Words() []string { return f.words }

// Without returns what finds the words that are in none of the texts.
func (f Finder) Without(texts ...string) Finder {
	return Finder{slices.DeleteFunc(slices.Clone(f.words), func(word string) bool {
		return slices.ContainsFunc(texts, func(s string) bool { return len(Finder{[]string{word}}.Spans(s)) > 0 })
	})}
}

// Spans returns the parts of s that have a word, in order and apart from each other. A part is of whole characters.
func (f Finder) Spans(s string) []Span {
	if len(f.words) == 0 {
		return nil
	}
	var found []Span
	whole := fold(s)
	number := whole.number()
	for _, word := range f.words {
		found = append(found, whole.spans(word)...)
		if digits(word) >= 4 {
			for _, spelled := range spelled(compact(word)) {
				found = append(found, number.spans(spelled)...)
			}
		}
	}
	slices.SortFunc(found, func(a, b Span) int { return a.From - b.From })
	var apart []Span
	for _, one := range found {
		one = characters(s, one)
		if last := len(apart) - 1; last >= 0 && one.From <= apart[last].To {
			apart[last].To = max(apart[last].To, one.To)
		} else {
			apart = append(apart, one)
		}
	}
	return apart
}

// folded is a text in the spelling that searches compare, with where each of its runes comes from.
type folded struct {
	runes []rune
	at    []Span
}

// fold writes s as the function search_fold of the database does.
func fold(s string) folded {
	var f folded
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		from := Span{i, i + size}
		i += size
		for _, part := range norm.NFKD.String(string(r)) {
			switch {
			case part >= 0x300 && part <= 0x36f, part >= 0x17c9 && part <= 0x17d3, part == 0x17dd, part == 0x17b4, part == 0x17b5, isInvisible(part):
				continue
			case part >= '០' && part <= '៩':
				part += '0' - '០'
			}
			f.runes, f.at = append(f.runes, unicode.ToLower(part)), append(f.at, from)
		}
	}
	return f
}

// number returns a number without its punctuation, nothing for a text that is no number.
func (f folded) number() (n folded) {
	letters := 0
	for i, r := range f.runes {
		switch {
		case unicode.IsLetter(r):
			letters++
		case strings.ContainsRune(punctuation, r):
			continue
		case !unicode.IsDigit(r):
			return folded{}
		}
		n.runes, n.at = append(n.runes, r), append(n.at, f.at[i])
	}
	if letters > 2 || len(n.runes)-letters < 7 {
		return folded{}
	}
	return n
}

func (f folded) spans(word string) (all []Span) {
	wanted := []rune(word)
	for i := 0; len(wanted) > 0 && i+len(wanted) <= len(f.runes); i++ {
		if slices.Equal(f.runes[i:i+len(wanted)], wanted) {
			all = append(all, Span{f.at[i].From, f.at[i+len(wanted)-1].To})
			i += len(wanted) - 1
		}
	}
	return all
}

// punctuation is what numbers are written with.
const punctuation = " +-./()"

func compact(word string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(punctuation, r) {
			return -1
		}
		return r
	}, word)
}

func onlyDigits(r rune) rune {
	if r >= '0' && r <= '9' {
		return r
	}
	return -1
}

func digits(word string) int { return len(strings.Map(onlyDigits, word)) }

// spelled returns a number, and without the prefix of a telephone number, which is 0 at home and 855 from abroad.
func spelled(number string) []string {
	national := strings.TrimPrefix(strings.TrimPrefix(strings.TrimPrefix(number, "00"), "855"), "0")
	if national == number || len(national) < 7 {
		return []string{number}
	}
	return []string{number, national}
}

// characters widens a part of s to whole characters: with the marks that follow its letters, and with the letters that Khmer writes
// below others.
func characters(s string, part Span) Span {
	const below = '\u17d2'
	for part.To < len(s) {
		last, _ := utf8.DecodeLastRuneInString(s[:part.To])
		next, size := utf8.DecodeRuneInString(s[part.To:])
		if last != below && !unicode.Is(unicode.M, next) {
			break
		}
		part.To += size
	}
	for part.From > 0 {
		first, _ := utf8.DecodeRuneInString(s[part.From:])
		before, size := utf8.DecodeLastRuneInString(s[:part.From])
		if before != below && !unicode.Is(unicode.M, first) {
			break
		}
		part.From -= size
	}
	return part
}
