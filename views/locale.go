package views

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"time"

	"patchbay/internal/text"

	"github.com/a-h/templ"
	"golang.org/x/text/language"
)

//go:embed locales/*.json
var localeFiles embed.FS

// Languages lists the tags of the languages that Patchbay has, the default first.
func Languages() []string { return []string{"en", "km", "fr"} }

// languageNames are what each language calls itself.
var languageNames = map[string]string{"en": "English", "km": "ខ្មែរ", "fr": "Français"}

// A locale is how one reader is addressed: the language, the present time and the time zone.
type locale struct {
	tag      string
	messages map[string]message
	now      time.Time
	zone     *time.Location
}

// A message is one text in one language, cut at the names to be filled in: text, name, text, name, …, text.
type message struct {
	one, other []string // one is nil where the text does not depend on a number
}

type localeKey struct{}

// WithLocale returns a context under which every component and T use the language of tag ("en", "km", "fr"; anything
// else is English), and give times relative to now and in zone. A nil zone is UTC, and then times say so.
func WithLocale(ctx context.Context, tag string, now time.Time, zone *time.Location) context.Context {
	if !KnownLocale(tag) {
		tag = "en"
	}
	return context.WithValue(ctx, localeKey{}, &locale{tag: tag, messages: loaded()[tag], now: now, zone: zone})
}

// inLanguage draws a component in another language than the page around it.
func inLanguage(tag string, c templ.Component) templ.Component {
	return templ.ComponentFunc(func(ctx context.Context, w io.Writer) error {
		l := localeOf(ctx)
		return c.Render(WithLocale(ctx, tag, l.now, l.zone), w)
	})
}

func localeOf(ctx context.Context) *locale {
	if l, ok := ctx.Value(localeKey{}).(*locale); ok {
		return l
	}
	return &locale{tag: "en", messages: loaded()["en"], now: time.Now()}
}

// Lang returns the tag of the context's language: "en", "km" or "fr".
func Lang(ctx context.Context) string { return localeOf(ctx).tag }

// T returns the text of key in the context's language. Values to be filled in follow as name and value:
// T(ctx, "connect.title", "Provider", "CamInvoice"). Names that would turn round the sentence are isolated. Integers are written with the language's separators, and one named
// Count also chooses between singular and plural. An unknown key is returned as it is; a test finds those.
func T(ctx context.Context, key string, pairs ...any) string {
	l := localeOf(ctx)
	m, ok := l.messages[key]
	if !ok {
		return key
	}
	parts := m.other
	if m.one != nil && singular(l.tag, valueOf(pairs, "Count")) {
		parts = m.one
	}
	if len(parts) == 1 {
		return parts[0]
	}
	var b strings.Builder
	for i, part := range parts {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		switch v := valueOf(pairs, part).(type) {
		case nil:
		case string:
			b.WriteString(text.Isolated(v))
		case int:
			b.WriteString(formatNumber(l.tag, int64(v)))
		case int64:
			b.WriteString(formatNumber(l.tag, v))
		default:
			fmt.Fprint(&b, v)
		}
	}
	return b.String()
}

// valueOf finds a name's value among names and values in turn; nil if it is not there.
func valueOf(pairs []any, name string) any {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] == name {
			return pairs[i+1]
		}
	}
	return nil
}

// singular reports whether a language uses its singular for n (CLDR's category "one"). Khmer has none.
func singular(tag string, n any) bool {
	switch tag {
	case "en":
		return n == 1 || n == int64(1)
	case "fr":
		return n == 0 || n == 1 || n == int64(0) || n == int64(1)
	}
	return false
}

// has reports whether there is a text of that key. Codes of providers (the names of details, of errors) may have none.
func has(ctx context.Context, key string) bool {
	_, ok := localeOf(ctx).messages[key]
	return ok
}

// MatchLocale returns the language that suits an Accept-Language header best, English if none does.
func MatchLocale(acceptLanguage string) string {
	tags, _, err := language.ParseAcceptLanguage(acceptLanguage)
	if err != nil || len(tags) == 0 {
		return "en"
	}
	// The index, not the tag: a matched tag may carry the reader's extensions (fr-u-rg-cazzzz).
	_, i, confidence := matcher().Match(tags...)
	if confidence == language.No {
		return "en"
	}
	return Languages()[i]
}

// KnownLocale reports whether tag is one of Languages.
func KnownLocale(tag string) bool { _, ok := languageNames[tag]; return ok }

var matcher = sync.OnceValue(func() language.Matcher {
	var tags []language.Tag
	for _, t := range Languages() {
		tags = append(tags, language.MustParse(t))
	}
	return language.NewMatcher(tags)
})

// loaded reads the embedded locale files once: messages by language and key. This package's tests find a broken file.
var loaded = sync.OnceValue(func() map[string]map[string]message {
	all := map[string]map[string]message{}
	for _, tag := range Languages() {
		all[tag] = map[string]message{}
		names, _ := fs.Glob(localeFiles, "locales/*."+tag+".json")
		for _, name := range names {
			body, _ := localeFiles.ReadFile(name)
			var file map[string]message
			_ = json.Unmarshal(body, &file)
			for key, m := range file {
				all[tag][key] = m
			}
		}
	}
	return all
})

// UnmarshalJSON reads a text, or an object with one text for the singular and one for all other numbers.
func (m *message) UnmarshalJSON(body []byte) error {
	var text struct{ One, Other string }
	if json.Unmarshal(body, &text.Other) != nil {
		if err := json.Unmarshal(body, &text); err != nil {
			return err
		}
		if text.One != "" {
			m.one = cut(text.One)
		}
	}
	m.other = cut(text.Other)
	return nil
}

// cut splits a text at its {{.Name}}s.
func cut(text string) []string {
	var parts []string
	for {
		before, rest, found := strings.Cut(text, "{{.")
		parts = append(parts, before)
		if !found {
			return parts
		}
		name, after, _ := strings.Cut(rest, "}}")
		parts, text = append(parts, name), after
	}
}
