package text

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFinderMarksWhatMatched(t *testing.T) {
	for name, c := range map[string]struct{ query, in, want string }{
		"nothing is searched":                 {"", "CH168 Shop", "CH168 Shop"},
		"in any case":                         {"ch168", "CH168 Shop", "[CH168] Shop"},
		"several words, in any order":         {"shop ch", "CH168 Shop", "[CH]168 [Shop]"},
		"each time":                           {"an", "Anna an", "[An]na [an]"},
		"neighbours are one":                  {"ann na", "Anna", "[Anna]"},
		"without its accents":                 {"etoile", "Boulangerie de l’Étoile", "Boulangerie de l’[Étoile]"},
		"of accents that stand apart":         {"etoile", "l’E\u0301toile", "l’[E\u0301toile]"},
		"ends with the accent":                {"cafe", "cafe\u0301 x", "[cafe\u0301] x"},
		"Khmer":                               {"ស៊ីអេច", "ក្រុមហ៊ុនស៊ីអេច១៦៨", "ក្រុមហ៊ុន[ស៊ីអេច]១៦៨"},
		"Khmer digits":                        {"168", "ស៊ីអេច១៦៨", "ស៊ីអេច[១៦៨]"},
		"a Khmer letter with what is below":   {"ក", "ក្រុម", "[ក្រុ]ម"},
		"half a tax number":                   {"71188", "0120871188", "01208[71188]"},
		"a tax number without its dash":       {"k0013333333", "K001-3333333", "[K001-3333333]"},
		"half of it, over the dash":           {"00133", "K001-3333333", "K[001-33]33333"},
		"a telephone number as at home":       {"012 345 678", "+855 12 345 678", "+855 [12 345 678]"},
		"and from abroad":                     {"+855 12 345 678", "012345678", "0[12345678]"},
		"an address":                          {"sokha@shop", "sokha@shop.example", "[sokha@shop].example"},
		"punctuation around":                  {"(shop),", "CH168 Shop", "CH168 [Shop]"},
		"what is not there":                   {"zzz", "CH168 Shop", "CH168 Shop"},
		"no number in a name with one letter": {"1234", "12-34 Main Street", "12-34 Main Street"},
		"bytes that are no letters":           {"shop", "\xff shop", "\xff [shop]"},
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			at := 0
			for _, span := range NewFinder(c.query).Spans(c.in) {
				got.WriteString(c.in[at:span.From] + "[" + c.in[span.From:span.To] + "]")
				at = span.To
			}
			if got.WriteString(c.in[at:]); got.String() != c.want {
				t.Errorf("%q in %q: %q, want %q", c.query, c.in, got.String(), c.want)
			}
		})
	}
	if left := NewFinder("ch168 0120 zzz").Without("CH168 Shop", "0120871188").Words(); len(left) != 1 || left[0] != "zzz" {
		t.Errorf("left: %q", left)
	}
}

func FuzzFinder(f *testing.F) {
	f.Add("ch168", "CH168 Shop")
	f.Add("ក្រុម", "ក្រុមហ៊ុនស៊ីអេច១៦៨")
	f.Add("+855 12 345 678", "012-345-678")
	f.Fuzz(func(t *testing.T, query, in string) {
		at := 0
		for _, span := range NewFinder(query).Spans(in) {
			if span.From < at || span.To <= span.From || span.To > len(in) {
				t.Fatalf("%q in %q: %v after %d", query, in, span, at)
			}
			if utf8.ValidString(in) && !utf8.ValidString(in[span.From:span.To]) {
				t.Fatalf("%q in %q: %v cuts a letter", query, in, span)
			}
			at = span.To
		}
	})
}
