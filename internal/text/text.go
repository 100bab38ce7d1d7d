// Package text is what this program thinks of text that people and providers write: what of it is kept, how long it is, and when
// two texts are the same. Names look the same in many spellings, and letters that nobody sees make one look like another.
package text

import (
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/bidi"
	"golang.org/x/text/unicode/norm"
)

// MaxName is how many characters a name may have that people type, as the fields for it say in maxlength.
const MaxName = 200

// ErrTooLong says that a name has more characters than that.
var ErrTooLong = fmt.Errorf("a name has more than %d characters", MaxName)

// Name returns s as a name: cleaned, on one line, with single spaces. It returns "" if s has no visible letter, since such a name
// names nothing.
func Name(s string) string {
	s = strings.Join(strings.FieldsFunc(Clean(s), isSpace), " ")
	if !strings.ContainsFunc(s, isVisible) {
		return ""
	}
	return s
}

// Clean returns s as valid UTF-8 in NFC, without space at its ends and without what is not seen: control characters but line
// feeds and tabs, controls of direction, and invisible characters where no script needs them.
func Clean(s string) string {
	s = strings.ToValidUTF8(s, "")
	if isPlain(s) {
		return strings.TrimFunc(s, isSpace)
	}
	for {
		// What is dropped may let its neighbours compose, and composing may move what was kept for its neighbours' sake.
		next := strings.TrimFunc(norm.NFC.String(drop(norm.NFC.String(s))), isSpace)
		if next == s {
			return s
		}
		s = next
	}
}

// isPlain reports whether s is printable ASCII, line feeds and tabs.
func isPlain(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return (r < ' ' && r != '\n' && r != '\t') || r > '~' })
}

// drop returns s without controls and without invisible characters where no script needs them.
func drop(s string) string {
	all := []rune(strings.ReplaceAll(s, "\r\n", "\n"))
	kept := make([]rune, 0, len(all))
	for i, r := range all {
		var before, after rune
		if len(kept) > 0 {
			before = kept[len(kept)-1]
		}
		if i+1 < len(all) {
			after = all[i+1]
		}
		switch {
		case isLineBreak(r):
			kept = append(kept, '\n')
		case isInvisible(r) && !needed(before, r, after):
		case unicode.Is(unicode.M, r) && (before == 0 || isSpace(before)): // a mark without a letter sits on whatever is before the name
		default:
			kept = append(kept, r)
		}
	}
	return string(kept)
}

// needed reports whether an invisible character between two others changes how they look or where a line may break.
func needed(before, r, after rune) bool {
	switch {
	case r == '\u200b': // between words of scripts that are written without spaces
		return unicode.In(before, spaceless...) && unicode.In(after, spaceless...)
	case r == '\u200c' || r == '\u200d':
		// A joiner at a word's end shows the half form of a letter (Malayalam, Sinhala) after the sign that takes its vowel.
		joins := unicode.In(before, joining...) && (unicode.In(after, joining...) || norm.NFC.PropertiesString(string(before)).CCC() == 9)
		return joins || r == '\u200d' && isEmoji(before) && isEmoji(after)
	case r == '\u17b4' || r == '\u17b5': // Khmer vowels that are not seen
		return unicode.Is(unicode.Khmer, before)
	case r == '\u115f': // a syllable of old Hangul without a first consonant
		return '\u1160' <= after && after <= '\u11a7'
	case r == '\u1160': // or without a vowel
		return '\u1100' <= before && before <= '\u115f'
	case 0x180b <= r && r <= 0x180f:
		return unicode.Is(unicode.Mongolian, before)
	case unicode.Is(unicode.Variation_Selector, r): // another shape of the letter before
		return before != 0 && !isInvisible(before) && !isSpace(before)
	case 0xe0020 <= r && r <= 0xe007f: // the flags of England, Scotland and Wales
		return before == '\U0001F3F4' || 0xe0020 <= before && before < 0xe007f
	}
	return false
}

var (
	spaceless = []*unicode.RangeTable{
		unicode.Khmer, unicode.Thai, unicode.Lao, unicode.Myanmar, unicode.Tai_Le, unicode.New_Tai_Lue, unicode.Tai_Tham, unicode.Tai_Viet,
		unicode.Balinese, unicode.Javanese, unicode.Tibetan,
	}
	joining = []*unicode.RangeTable{
		unicode.Arabic, unicode.Syriac, unicode.Mandaic, unicode.Nko, unicode.Mongolian, unicode.Phags_Pa, unicode.Adlam, unicode.Hanifi_Rohingya,
		unicode.Devanagari, unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati, unicode.Oriya, unicode.Tamil, unicode.Telugu, unicode.Kannada,
		unicode.Malayalam, unicode.Sinhala, unicode.Khmer, unicode.Myanmar, unicode.Balinese, unicode.Javanese,
	}
)

// isEmoji reports whether r may be a part of an emoji that joiners make of several.
func isEmoji(r rune) bool {
	return unicode.In(r, unicode.So, unicode.Sk) || r == '\ufe0f' || r == '↔' || r == '↕'
}

func isSpace(r rune) bool { return unicode.IsSpace(r) || r == '\u2800' } // the Braille pattern without a dot

// isLineBreak reports whether r ends a line and is not the line feed itself.
func isLineBreak(r rune) bool {
	return r == '\r' || r == '\v' || r == '\f' || r == '\u0085' || r == '\u2028' || r == '\u2029'
}

// isInvisible reports whether r is nothing to see by itself, and no space.
func isInvisible(r rune) bool {
	switch {
	case r == '\n' || r == '\t' || isSpace(r) && !unicode.IsControl(r):
		return false
	case unicode.Is(unicode.Prepended_Concatenation_Mark, r): // the Arabic number sign and its like
		return false
	case r == '\ufffc' || r == '\U0001D159': // an object that is missing, a note without a head
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector, unicode.Noncharacter_Code_Point)
}

// isVisible reports whether r can be seen by itself.
func isVisible(r rune) bool {
	return !isInvisible(r) && !isSpace(r) && !unicode.Is(unicode.M, r) && unicode.IsGraphic(r)
}

// Length returns how many characters s has: as it is or as it is kept, whichever are fewer, so that a text that a field with that
// maxlength takes is never too long.
func Length(s string) int {
	return min(utf8.RuneCountInString(s), utf8.RuneCountInString(recomposed().Replace(Clean(s))))
}

// recomposed puts together again what NFC takes apart: some letters with a point or nukta of Hebrew and of scripts of India and Tibet
// (UAX #15, composition exclusions).
var recomposed = sync.OnceValue(func() *strings.Replacer {
	var pairs []string
	for _, block := range [][2]rune{{0x344, 0x344}, {0x900, 0xfff}, {0x2adc, 0x2adc}, {0xfb1d, 0xfb4e}, {0x1d15e, 0x1d1c0}} {
		for r := block[0]; r <= block[1]; r++ {
			if apart := norm.NFC.String(string(r)); utf8.RuneCountInString(apart) > 1 {
				pairs = append(pairs, apart, string(r))
			}
		}
	}
	return strings.NewReplacer(pairs...)
})

// Email returns an e-mail address as it is kept: cleaned, its domain in lower case (RFC 5321 section 2.4) and in its own script, however
// it was written (RFC 5891 section 5: xn--bcher-kva is bücher).
func Email(s string) string {
	return withDomain(Name(s), func(domain string) (string, error) {
		own, err := idna.Lookup.ToUnicode(domain)
		return Name(own), err
	})
}

// ASCIIEmail returns an e-mail address with its domain in ASCII, as mail servers without SMTPUTF8 take it (RFC 5891 section 4.4). What
// is before the @ stays as it is: it has no other spelling.
func ASCIIEmail(s string) string { return withDomain(s, idna.Lookup.ToASCII) }

// maxDomain is how many bytes the name of a host has at most: 253 letters (RFC 1035 section 2.3.4), of up to 4 bytes.
const maxDomain = 4 * 253

// withDomain changes the domain of an address, and makes one that is no host's name lower case only.
func withDomain(address string, change func(string) (string, error)) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address
	}
	given := address[at+1:]
	if len(given) <= maxDomain {
		if domain, err := change(given); err == nil && domain != "" {
			return address[:at+1] + domain
		}
	}
	return address[:at+1] + strings.ToLower(given)
}

// Password returns a password as it is hashed: in NFKC, since keyboards differ in how they compose a letter (RFC 8265 section 4).
func Password(s string) string { return norm.NFKC.String(s) }

// Isolated returns a name so that it does not turn round the sentence that it is put into: between U+2068 and U+2069 if it has
// letters that are written from right to left (UAX #9). Controls of direction in it, which could end that, are dropped.
func Isolated(s string) string {
	if !strings.ContainsFunc(s, turns) {
		return s
	}
	return string(Isolate) + strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Bidi_Control, r) {
			return -1
		}
		return r
	}, s) + string(PopIsolate)
}

// What Isolated puts around a name.
const (
	Isolate    = '\u2068'
	PopIsolate = '\u2069'
)

// turns reports whether r turns the direction of what is around it.
func turns(r rune) bool {
	if r < 0x590 {
		return false
	}
	if unicode.Is(unicode.Bidi_Control, r) {
		return true
	}
	p, _ := bidi.LookupRune(r)
	switch p.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return true
	}
	return false
}
