package views

import (
	"context"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/status"
)

// written is one entry of a locale file, with its singular where it has one.
type written struct{ one, other string }

func readLocales(t *testing.T) map[string]map[string]written {
	t.Helper()
	all := map[string]map[string]written{}
	for _, tag := range Languages() {
		all[tag] = map[string]written{}
	}
	paths, err := filepath.Glob("locales/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no locale files: %v", err)
	}
	for _, path := range paths {
		body, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var entries map[string]any
		if err := json.Unmarshal(body, &entries); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		parts := strings.Split(filepath.Base(path), ".")
		messages := all[parts[1]]
		if len(parts) != 3 || messages == nil {
			t.Fatalf("%s is not named {noun}.{language}.json", path)
		}
		for key, value := range entries {
			if _, twice := messages[key]; twice {
				t.Errorf("%s: %s is in another file as well", path, key)
			}
			switch v := value.(type) {
			case string:
				messages[key] = written{other: v}
			case map[string]any:
				one, _ := v["one"].(string)
				other, _ := v["other"].(string)
				messages[key] = written{one: one, other: other}
			}
			if messages[key].other == "" {
				t.Errorf("%s: %s is empty", path, key)
			}
		}
	}
	return all
}

var (
	placeholder = regexp.MustCompile(`{{[^}]*}}`)
	nameOnly    = regexp.MustCompile(`^{{\.[A-Z][A-Za-z]*}}$`)
)

func placeholders(s string) []string {
	found := placeholder.FindAllString(s, -1)
	slices.Sort(found)
	return slices.Compact(found)
}

func TestEveryLanguageSaysEverything(t *testing.T) {
	all := readLocales(t)
	for key, english := range all["en"] {
		for _, name := range placeholders(english.one + english.other) {
			if !nameOnly.MatchString(name) {
				t.Errorf("%s: %s is no name to fill in", key, name)
			}
		}
		for _, tag := range Languages()[1:] {
			m, ok := all[tag][key]
			if !ok {
				t.Errorf("%s is missing in %s", key, tag)
				continue
			}
			if got, want := placeholders(m.other), placeholders(english.other); !slices.Equal(got, want) {
				t.Errorf("%s in %s fills in %v, in English %v", key, tag, got, want)
			}
			if tag == "km" && m.one != "" {
				t.Errorf("%s: Khmer has no singular", key)
			}
			if tag == "fr" && (m.one == "") != (english.one == "") {
				t.Errorf("%s: a singular in one of English and French only", key)
			}
		}
	}
	for _, tag := range Languages()[1:] {
		for key := range all[tag] {
			if _, ok := all["en"][key]; !ok {
				t.Errorf("%s is in %s but not in English", key, tag)
			}
		}
	}
}

// TestKhmerIsKhmer finds a text that was left in another language: one without a single Khmer letter. Names are allowed.
func TestKhmerIsKhmer(t *testing.T) {
	names := []string{"layout.name"}
	for key, m := range readLocales(t)["km"] {
		if !strings.ContainsFunc(m.other, func(r rune) bool { return unicode.Is(unicode.Khmer, r) }) && !slices.Contains(names, key) {
			t.Errorf("%s in Khmer has no Khmer letter: %q", key, m.other)
		}
	}
}

// TestFrenchIsFrench finds a French text that is the English one.
func TestFrenchIsFrench(t *testing.T) {
	all := readLocales(t)
	same := []string{"Patchbay", "Pages", "Production", "Actions", "Mode", "Incident", "E-mail", "Question", "Sessions"}
	for key, m := range all["fr"] {
		if m.other == all["en"][key].other && !slices.Contains(same, m.other) {
			t.Errorf("%s in French is the English text %q", key, m.other)
		}
	}
}

// TestEveryKeyExists reads the sources: a key that a page asks for by name must be in the locales, and a prefix that a
// code is appended to must have at least one entry.
func TestEveryKeyExists(t *testing.T) {
	known := readLocales(t)["en"]
	whole := regexp.MustCompile(`(?:\bT|wordIf|has)\(ctx, "([^"]+)"[,)]`)
	prefix := regexp.MustCompile(`(?:(?:\bT|wordIf|has)\(ctx, "([^"]+)" ?\+|wordFor\(ctx, "([^"]+)")`)
	asked := 0
	for _, pattern := range []string{"*.templ", "*.go"} {
		paths, _ := filepath.Glob(pattern)
		for _, path := range paths {
			if strings.HasSuffix(path, "_templ.go") || strings.HasSuffix(path, "_test.go") || path == "doc.go" {
				continue
			}
			body, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range whole.FindAllStringSubmatch(string(body), -1) {
				asked++
				if _, ok := known[m[1]]; !ok {
					t.Errorf("%s asks for %s, which no locale has", path, m[1])
				}
			}
			for _, m := range prefix.FindAllStringSubmatch(string(body), -1) {
				start := m[1] + m[2]
				if !slices.ContainsFunc(keysOf(known), func(key string) bool { return strings.HasPrefix(key, start) }) {
					t.Errorf("%s asks for keys beginning with %s, of which there are none", path, start)
				}
			}
		}
	}
	if asked < 100 {
		t.Errorf("only %d keys found in the sources: has the way of asking changed?", asked)
	}
}

// TestEveryKeyIsUsed finds texts that no page can show. A key is used when it is written out in the sources of the views,
// or when it is a prefix written there ("event.", "bulk.state-") and a code made of words that are string literals of the
// program: "flow." and "denied" and ".what".
func TestEveryKeyIsUsed(t *testing.T) {
	known := readLocales(t)["en"]
	inViews := literals(t, "*.go")
	inProgram := literals(t, "*.go", "../internal/*/*.go", "../cmd/web/*.go")
	for status := 400; status < 600; status++ {
		if http.StatusText(status) != "" {
			inProgram[strconv.Itoa(status)] = true // error pages are named after their status
		}
	}
	var isCode func(code string) bool
	isCode = func(code string) bool {
		if inProgram[code] {
			return true
		}
		for i, r := range code {
			if (r == '.' || r == '-') && isCode(code[:i]) && isCode(code[i+1:]) {
				return true
			}
		}
		return false
	}
	kinds := append(status.Kinds(), recovered, audit.Refreshes)
	isEvent := func(code string) bool {
		return slices.ContainsFunc(kinds, func(kind status.Kind) bool {
			short := strings.TrimPrefix(string(kind), "connection.") // shown without its noun, see Event.kind
			note, noted := strings.CutPrefix(code, short+".")
			return code == short || noted && inProgram[note]
		})
	}
	used := func(key string) bool {
		if code, ok := strings.CutPrefix(key, "event."); ok && !inViews[key] {
			return isEvent(code)
		}
		key = strings.TrimPrefix(key, "staff-") // words for staff stand in for those of the same name, see problemText
		if inViews[key] || inViews["staff-"+key] {
			return true
		}
		for i, r := range key {
			if (r == '.' || r == '-') && inViews[key[:i+1]] && isCode(key[i+1:]) {
				return true
			}
		}
		return false
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if !used(key) {
			t.Errorf("no page asks for %s", key)
		}
	}
}

// literals are the string constants in Go files that are not tests, and the words in quotes within those that are SQL.
func literals(t *testing.T, patterns ...string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	quoted := regexp.MustCompile(`'([a-z-]+)'`)
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("no sources at %s: %v", pattern, err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					text, err := strconv.Unquote(lit.Value)
					if err != nil {
						t.Fatal(err)
					}
					all[text] = true
					if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "-") {
						all[text[1:]] = true // what is put after a code: ".subject"
					}
					for _, m := range quoted.FindAllStringSubmatch(text, -1) {
						all[m[1]] = true
					}
				}
				return true
			})
		}
	}
	return all
}

// TestEveryWordOfStatusHasWords goes through the lists of internal/status: a code without words would be shown as it is.
func TestEveryWordOfStatusHasWords(t *testing.T) {
	known := readLocales(t)["en"]
	want := []string{}
	for _, k := range status.Kinds() {
		want = append(want, "event."+k.OfConnection())
	}
	for _, h := range status.Healths() {
		want = append(want, "health."+string(h), "healths."+string(h))
	}
	for _, p := range status.Problems() {
		want = append(want, "problems."+string(p))
		if p != status.ProblemRejected { // what can be said of any the merchant must act on
			want = append(want, "problem."+string(p))
		}
	}
	for _, p := range status.Parties() {
		want = append(want, "whos."+string(p), "problem.who-"+string(p))
	}
	for _, o := range status.BulkOutcomes() {
		want = append(want, "class."+string(o))
	}
	for _, key := range want {
		if known[key].other == "" {
			t.Errorf("no locale has words for %s", key)
		}
	}
}

func TestEveryReasonOfARefreshHasWords(t *testing.T) {
	known := readLocales(t)["en"]
	for _, next := range status.NextRefreshes() {
		if known["why."+string(next)].other == "" {
			t.Errorf("no locale says why a refresh is %q", next)
		}
	}
}

func keysOf(m map[string]written) []string {
	out := make([]string, 0, len(m))
	for key := range m {
		out = append(out, key)
	}
	return out
}

func TestMatchLocale(t *testing.T) {
	for header, want := range map[string]string{
		"":                              "en",
		"km":                            "km",
		"km-KH,km;q=0.9,en;q=0.5":       "km",
		"fr-CA,fr;q=0.9":                "fr",
		"fr-u-rg-cazzzz":                "fr",
		"nl-NL,nl;q=0.9":                "en",
		"nl,fr;q=0.8":                   "fr",
		"en-GB":                         "en",
		"*":                             "en",
		";;;not a header":               "en",
		strings.Repeat("x-klingon,", 9): "en",
	} {
		if got := MatchLocale(header); got != want {
			t.Errorf("MatchLocale(%q) = %q, want %q", header, got, want)
		}
	}
}

func TestCounts(t *testing.T) {
	for _, c := range []struct {
		tag  string
		n    int
		want string
	}{
		{"en", 1, "in 1 day"},
		{"en", 2, "in 2 days"},
		{"fr", 0, "dans 0 jour"},
		{"fr", 1, "dans 1 jour"},
		{"fr", 2, "dans 2 jours"},
		{"fr", 1000000, "dans 1\u202f000\u202f000 jours"},
		{"km", 1, "ក្នុងរយៈពេល 1 ថ្ងៃ"},
		{"nl", 1234, "in 1,234 days"},
	} {
		if got := T(WithLocale(context.Background(), c.tag, storyNow, nil), "date.in-days", "Count", c.n); got != c.want {
			t.Errorf("%s %d: %q, want %q", c.tag, c.n, got, c.want)
		}
	}
}

func TestDates(t *testing.T) {
	zone := time.FixedZone("+07", 7*3600)
	now := time.Date(2026, 11, 22, 0, 30, 0, 0, zone)
	for _, c := range []struct {
		tag  string
		at   time.Time
		want string
	}{
		{"en", now.Add(-20 * time.Minute), "today 00:10"},
		{"en", now.Add(-40 * time.Minute), "yesterday 23:50"},
		{"en", now.Add(24 * time.Hour), "tomorrow 00:30"},
		{"en", now.Add(6 * day), "in 6 days"},
		{"en", now.Add(-3 * day), "3 days ago"},
		{"en", now.Add(-30 * day), "23 October"},
		{"en", now.Add(-400 * day), "18 October 2025"},
		{"en", now.Add(40 * day), "1 January 2027"},
		{"fr", now.Add(40 * day), "1er janvier 2027"},
		{"fr", now, "aujourd’hui à 00\u00a0h\u00a030"},
		{"km", now.Add(-400 * day), "18 តុលា 2025"},
		{"en", time.Time{}, "–"},
	} {
		if got := Ago(WithLocale(context.Background(), c.tag, now, zone), c.at); got != c.want {
			t.Errorf("%s %v: %q, want %q", c.tag, c.at, got, c.want)
		}
	}
	if got, want := Ago(WithLocale(context.Background(), "en", now, nil), now), "today 17:30 UTC"; got != want {
		t.Errorf("without a zone: %q, want %q", got, want)
	}
	if got, want := Exact(WithLocale(context.Background(), "en", now, zone), now), "22 November 2026 00:30:00 UTC+7"; got != want {
		t.Errorf("exact: %q, want %q", got, want)
	}
}

func TestZone(t *testing.T) {
	for _, name := range []string{"Asia//Phnom_Penh", "Asia/./Phnom_Penh", "./UTC", "", "Local", "../../etc/passwd", "Nowhere/Land", strings.Repeat("a", 100)} {
		if z := Zone(name); z != nil {
			t.Errorf("Zone(%q) = %v", name, z)
		}
	}
	if z := Zone("Asia/Phnom_Penh"); z == nil || z.String() != "Asia/Phnom_Penh" {
		t.Errorf("Phnom Penh is %v", z)
	}
}

func TestLinksToOtherLanguagesStayHere(t *testing.T) {
	for path, want := range map[string]string{
		"/":                              "/?lang=km",
		"/admin/connections?q=a%26b&x=1": "/admin/connections?lang=km&q=a%26b&x=1",
		"/?lang=fr":                      "/?lang=km",
		"//evil.example/":                "/?lang=km",
		"https://evil.example/":          "/?lang=km",
		"":                               "/?lang=km",
	} {
		if got := (Page{Path: path}).langURL("km"); got != want {
			t.Errorf("from %q: %q, want %q", path, got, want)
		}
	}
}

func TestHumanised(t *testing.T) {
	for code, want := range map[string]string{
		"date_of_incorporation": "Date of incorporation", "branchCode": "Branch code", "USER_ID": "USER ID", "": "", "__": "", "orders.read": "Orders read", "ឈ្មោះ": "ឈ្មោះ",
	} {
		if got := humanised(code); got != want {
			t.Errorf("humanised(%q) = %q, want %q", code, got, want)
		}
	}
}

func TestADetailThatIsAListReadsAsOne(t *testing.T) {
	ctx := WithLocale(context.Background(), "en", time.Time{}, nil)
	for value, want := range map[string]string{
		`["bookings:create","bookings:delete"]`: "bookings:create, bookings:delete",
		`[{"a":"b"}]`:                           `[{"a":"b"}]`,
		`[sic] Ltd`:                             `[sic] Ltd`,
	} {
		if got := detailText(ctx, connectors.Detail{Key: "scopes", Value: value}); got != want {
			t.Errorf("%s reads %q, want %q", value, got, want)
		}
	}
}

func TestOneWordForRefreshingInEachLanguage(t *testing.T) {
	for tag, others := range map[string]string{"en": `(?i)\brenew|\bextend`, "fr": `(?i)actualis|rafra[iî]ch|reconduc`, "km": "ធ្វើឱ្យថ្មី|ធ្វើឱ្យការតភ្ជាប់|បន្តសុពលភាព|ធ្វើបច្ចុប្បន្នភាព"} {
		other := regexp.MustCompile(others)
		for key, m := range loaded()[tag] {
			for _, form := range append(slices.Clone(m.one), m.other...) {
				if found := other.FindString(form); found != "" {
					t.Errorf("%s.%s calls refreshing %q", tag, key, found)
				}
			}
		}
	}
}
