package text

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

func TestNameKeepsWhatPeopleSee(t *testing.T) {
	for name, c := range map[string]struct{ given, want string }{
		"Latin":                               {"Sok's Shop & Sons, Ltd.", "Sok's Shop & Sons, Ltd."},
		"space around and between":            {"\u00a0 Sok \t\u3000 Shop\r\n", "Sok Shop"},
		"lines":                               {"Sok\r\nShop\u2028Phnom Penh", "Sok Shop Phnom Penh"},
		"decomposed French":                   {"Montre\u0301al Cafe\u0301", "Montréal Café"},
		"Vietnamese marks in another order":   {"Vie\u0302\u0323t", "Việt"},
		"Hangul letter by letter":             {"\u1112\u1161\u11ab\u1100\u1173\u11af", "한글"},
		"old Hangul without a consonant":      {"\u115f\u1161", "\u115f\u1161"},
		"fullwidth Latin":                     {"Ｓｏｋ Ｓｈｏｐ", "Ｓｏｋ Ｓｈｏｐ"},
		"Arabic":                              {"متجر سوق", "متجر سوق"},
		"Persian with a non-joiner":           {"می\u200cخواهم", "می\u200cخواهم"},
		"Hebrew":                              {"חנות סוק", "חנות סוק"},
		"Khmer with space between words":      {"ហាង\u200bលក់\u200bសៀវភៅ", "ហាង\u200bលក់\u200bសៀវភៅ"},
		"Khmer with a subscript consonant":    {"ក្រុមហ៊ុន ស្រីសុខ", "ក្រុមហ៊ុន ស្រីសុខ"},
		"Khmer with a vowel that is not seen": {"ក\u17b4ខ", "ក\u17b4ខ"},
		"Thai with space between words":       {"ร้าน\u200bขาย", "ร้าน\u200bขาย"},
		"Lao with space between words":        {"ຮ້ານ\u200bຂາຍ", "ຮ້ານ\u200bຂາຍ"},
		"Sinhala conjunct":                    {"ශ්\u200dරී", "ශ්\u200dරී"},
		"Malayalam chillu at the end":         {"അവന്\u200d", "അവന്\u200d"},
		"emoji family":                        {"👨\u200d👩\u200d👧 Shop", "👨\u200d👩\u200d👧 Shop"},
		"emoji with a shape and a skin":       {"❤\ufe0f 🧑🏽\u200d🍳", "❤\ufe0f 🧑🏽\u200d🍳"},
		"flag of Scotland":                    {"🏴\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074\U000E007F", "🏴\U000E0067\U000E0062\U000E0073\U000E0063\U000E0074\U000E007F"},
		"digits alone":                        {"7-11", "7-11"},

		"right-to-left override":             {"\u202eShop of Sok", "Shop of Sok"},
		"isolates and marks of direction":    {"\u2067Shop\u2069 \u200fof\u200e \u061cSok", "Shop of Sok"},
		"direction that is embedded":         {"Sok \u202bShop\u202c \u202aLtd\u202c", "Sok Shop Ltd"},
		"zero-width space in Latin":          {"So\u200bk", "Sok"},
		"zero-width space at Khmer ends":     {"\u200bហាង\u200b", "ហាង"},
		"joiners in Latin":                   {"S\u200do\u200ck", "Sok"},
		"joiners in Han":                     {"金\u200d邊", "金邊"},
		"doubled zero-width space in Khmer":  {"ហាង\u200b\u200bលក់", "ហាង\u200bលក់"},
		"word joiner and byte order mark":    {"\ufeffSok\u2060Shop", "SokShop"},
		"soft hyphen":                        {"So\u00adk", "Sok"},
		"letters of tags":                    {"Sok\U000E0053\U000E0068", "Sok"},
		"variation selectors in a row":       {"Sok\ufe0f\ufe0f\ufe0f", "Sok\ufe0f"},
		"Hangul fillers":                     {"\u3164Sok\uffa0", "Sok"},
		"control characters":                 {"S\x00o\x1bk\u0085Shop", "Sok Shop"},
		"a mark on what is before the name":  {"\u0301Sok", "Sok"},
		"broken UTF-8":                       {"So\xffk\xed\xa0\x80", "Sok"},
		"what lets its neighbours compose":   {"Cafe\u200b\u0301", "Café"},
		"dots of an object that is not here": {"\ufffcSok", "Sok"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Name(c.given); got != c.want {
				t.Errorf("Name(%+q) = %+q, want %+q", c.given, got, c.want)
			}
		})
	}
}

func TestANameWithoutAVisibleLetterIsNone(t *testing.T) {
	for name, s := range map[string]string{
		"nothing": "", "spaces": " \u00a0\u3000\u2003", "zero-width spaces": "\u200b", "the report's": "\u200b\u2060\u200d", "override": "\u202e",
		"Hangul filler": "\u3164", "halfwidth filler": "\uffa0", "jamo fillers": "\u115f\u1160", "Braille blank": "\u2800", "soft hyphen": "\u00ad",
		"mark alone": "\u0301", "variation selector": "\ufe0f", "tags": "\U000E0041\U000E0042", "Mongolian separator": "\u180e", "Khmer vowel": "\u17b4\u17b5",
		"grapheme joiner": "\u034f", "controls": "\x00\x01\x7f\u0080", "line separators": "\u2028\u2029", "musical blank": "\U0001D159", "noncharacter": "\uffff",
		"broken UTF-8": "\xff\xfe",
	} {
		if got := Name(s); got != "" {
			t.Errorf("%s: Name(%+q) = %+q, want none", name, s, got)
		}
	}
}

func TestCleanKeepsLines(t *testing.T) {
	for given, want := range map[string]string{
		"St 271\r\nPhnom Penh":    "St 271\nPhnom Penh",
		" a\tb\n\n":               "a\tb",
		"1\u2029\u202e2\x0b3\x00": "1\n2\n3",
		"#12\n\u200b":             "#12",
		"ភូមិ ១\u200b":            "ភូមិ ១",
	} {
		if got := Clean(given); got != want {
			t.Errorf("Clean(%+q) = %+q, want %+q", given, got, want)
		}
	}
}

func TestLengthCountsCharacters(t *testing.T) {
	for given, want := range map[string]int{
		strings.Repeat("ក", 115):       115,
		strings.Repeat("x", 201):       201,
		strings.Repeat("e\u0301", 200): 200,
		strings.Repeat("\u0958", 200):  200, // becomes two in NFC
		strings.Repeat("\ufb2c", 200):  200, // becomes three
		strings.Repeat("🙂", 100):       100,
		"Sok\u200b\u200b":              3,
		"":                             0,
	} {
		if got := Length(given); got != want {
			t.Errorf("Length(%.20q) = %d, want %d", given, got, want)
		}
	}
}

func TestEmailKeepsTheLocalPart(t *testing.T) {
	for given, want := range map[string]string{
		" Sok@Shop.Example\u200b ": "Sok@shop.example",
		"\ufeffsok@shop.example":   "sok@shop.example",
		"re\u0301mi@shop.example":  "rémi@shop.example",
		"no address":               "no address",
		"\u202esok@shop.example":   "sok@shop.example",

		"sok@xn--bcher-kva.example": "sok@bücher.example", "Sok@BÜCHER.Example": "Sok@bücher.example", "sok@XN--BCHER-KVA.EXAMPLE": "sok@bücher.example",
		"sok@bu\u0308cher.example": "sok@bücher.example", "sok@ＢÜcher。example": "sok@bücher.example",
		"sok@xn--90ais": "sok@бел", "sok@xn--fiqs8s": "sok@中国", "សុខ@ហាង.example": "សុខ@ហាង.example",
		"sok@straße.example": "sok@straße.example", "sok@xn--strae-oqa.example": "sok@straße.example", // not strasse
		"sok@xn--a.example": "sok@xn--a.example", "sok@a_b.Example": "sok@a_b.example", "sok@[127.0.0.1]": "sok@[127.0.0.1]", "sok@": "sok@", // no names of hosts
	} {
		if got := Email(given); got != want {
			t.Errorf("Email(%+q) = %+q, want %+q", given, got, want)
		}
	}
}

func TestASCIIEmail(t *testing.T) {
	for given, want := range map[string]string{
		"sok@bücher.example": "sok@xn--bcher-kva.example", "sok@xn--bcher-kva.example": "sok@xn--bcher-kva.example", "Sok@shop.example": "Sok@shop.example",
		"sok@бел": "sok@xn--90ais", "rémi@bücher.example": "rémi@xn--bcher-kva.example", "sok@a_b.example": "sok@a_b.example", "no address": "no address",
		"sok@[127.0.0.1]": "sok@[127.0.0.1]", `"a@b"@bücher.example`: `"a@b"@xn--bcher-kva.example`,
	} {
		if got := ASCIIEmail(given); got != want {
			t.Errorf("ASCIIEmail(%+q) = %+q, want %+q", given, got, want)
		}
		if got := Email(ASCIIEmail(given)); got != Email(given) {
			t.Errorf("%+q is kept as %+q by its spelling in ASCII", given, got)
		}
	}
}

func TestIsolatedHoldsOnlyWhatTurnsASentence(t *testing.T) {
	for given, want := range map[string]string{
		"Sok Shop": "Sok Shop", "ហាង": "ហាង", "Café": "Café", "金邊": "金邊", "": "",
		"متجر": "\u2068متجر\u2069", "חנות": "\u2068חנות\u2069", "Shop متجر": "\u2068Shop متجر\u2069", "ދިވެހި": "\u2068ދިވެހި\u2069", "٤٢": "\u2068٤٢\u2069",
	} {
		if got := Isolated(given); got != want {
			t.Errorf("Isolated(%+q) = %+q, want %+q", given, got, want)
		}
	}
}

func FuzzName(f *testing.F) {
	for _, s := range []string{
		"Sok Shop", "\u202eShop\u2069", "ក្រុម\u200bហ៊ុន", "e\u200b\u0301", "\u0d4d\u0323\u200d", "👨\u200d👩", "\u115f\u1161\u11ab", "\u0301\u200d\ufe0f", "\xff\x00",
		"\u0958\u0327", "ﬁ\u00ad", "ß\u0345", "\u1e9e\u0130", "\u0344\u03aa", "a\u2800b\u0085",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := Name(s)
		switch {
		case Name(name) != name:
			t.Errorf("Name(%+q) = %+q, and again %+q", s, name, Name(name))
		case Clean(Clean(s)) != Clean(s):
			t.Errorf("Clean(%+q) = %+q, and again %+q", s, Clean(s), Clean(Clean(s)))
		case !utf8.ValidString(name) || !norm.NFC.IsNormalString(name):
			t.Errorf("Name(%+q) = %+q is not in NFC", s, name)
		case strings.ContainsFunc(name, func(r rune) bool { return unicode.Is(unicode.Bidi_Control, r) || unicode.IsControl(r) }):
			t.Errorf("Name(%+q) = %+q keeps a control", s, name)
		case strings.TrimSpace(name) != name || strings.Contains(name, "  "):
			t.Errorf("Name(%+q) = %+q keeps space", s, name)
		case name != "" && !strings.ContainsFunc(name, isVisible):
			t.Errorf("Name(%+q) = %+q cannot be seen", s, name)
		case Length(s) > utf8.RuneCountInString(s) || Length(name) > Length(s):
			t.Errorf("Length(%+q) = %d, of its name %d", s, Length(s), Length(name))
		case Password(Password(s)) != Password(s):
			t.Errorf("Password(%+q) changes again", s)
		case Email(Email(s)) != Email(s):
			t.Errorf("Email(%+q) = %+q, and again %+q", s, Email(s), Email(Email(s)))
		}
	})
}
