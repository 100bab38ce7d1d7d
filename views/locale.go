package views

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/nicksnyder/go-i18n/v2/i18n"
	"golang.org/x/text/language"
)

//go:embed locales/*.json
var localeFiles embed.FS

// Languages lists the tags of every language Patchbay speaks, the default first.
func Languages() []string { return []string{"en", "km", "fr"} }

// languageNames are what each language calls itself.
var languageNames = map[string]string{"en": "English", "km": "ខ្មែរ", "fr": "Français"}

// A locale is how one reader is spoken to: the language, what time it is and where.
type locale struct {
	tag   string
	words *words
	now   time.Time
	zone  *time.Location
}

// words are the texts of one language. Most have nothing to fill in and are found in plain; most others have only
// names to fill in and are found in cut; the rest, those with a singular, go through go-i18n.
type words struct {
	plain     map[string]string
	cut       map[string][]string // text, name, text, name, … text
	known     map[string]bool
	counted   map[string]bool // has a singular of its own
	localizer *i18n.Localizer
}

type localeKey struct{}

// WithLocale returns a context under which every component and T speak the language of tag ("en", "km", "fr"; anything
// else is English), tell times relative to now and in zone. A nil zone is UTC, and then times say so.
func WithLocale(ctx context.Context, tag string, now time.Time, zone *time.Location) context.Context {
	all := loaded()
	w, ok := all[tag]
	if !ok {
		tag = "en"
		w = all[tag]
	}
	return context.WithValue(ctx, localeKey{}, &locale{tag: tag, words: w, now: now, zone: zone})
}

func localeOf(ctx context.Context) *locale {
	if l, ok := ctx.Value(localeKey{}).(*locale); ok {
		return l
	}
	return &locale{tag: "en", words: loaded()["en"], now: time.Now()}
}

// Lang is the tag of the context's language: "en", "km" or "fr".
func Lang(ctx context.Context) string { return localeOf(ctx).tag }

// T returns the text of key in the context's language. What is to be filled in follows as name and value:
// T(ctx, "connect.title", "Provider", "CamInvoice"). A value named Count also chooses between singular and plural and
// is written as a number of the language. An unknown key is returned as it is; a test keeps that from happening.
func T(ctx context.Context, key string, pairs ...any) string {
	l := localeOf(ctx)
	if s, ok := l.words.plain[key]; ok {
		return s
	}
	if parts, ok := l.words.cut[key]; ok {
		return l.fill(parts, pairs)
	}
	if !l.words.known[key] {
		return key
	}
	data := make(map[string]any, len(pairs)/2)
	c := &i18n.LocalizeConfig{MessageID: key, TemplateData: data}
	for i := 0; i+1 < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		switch v := pairs[i+1].(type) {
		case int:
			data[name] = formatNumber(l.tag, int64(v))
			if name == "Count" && l.words.counted[key] {
				c.PluralCount = v
			}
		case int64:
			data[name] = formatNumber(l.tag, v)
			if name == "Count" && l.words.counted[key] {
				c.PluralCount = v
			}
		default:
			data[name] = v
		}
	}
	s, err := l.words.localizer.Localize(c)
	if err != nil {
		return key
	}
	return s
}

// fill puts values into a text that was cut at its names.
func (l *locale) fill(parts []string, pairs []any) string {
	var b strings.Builder
	for i, part := range parts {
		if i%2 == 0 {
			b.WriteString(part)
			continue
		}
		for j := 0; j+1 < len(pairs); j += 2 {
			if pairs[j] != part {
				continue
			}
			switch v := pairs[j+1].(type) {
			case string:
				b.WriteString(v)
			case int:
				b.WriteString(formatNumber(l.tag, int64(v)))
			case int64:
				b.WriteString(formatNumber(l.tag, v))
			default:
				fmt.Fprint(&b, v)
			}
		}
	}
	return b.String()
}

// cut takes a text apart at its {{.Name}}s; nil when it holds anything else in braces.
func cut(text string) []string {
	var parts []string
	for {
		before, rest, more := strings.Cut(text, "{{")
		parts = append(parts, before)
		if !more {
			return parts
		}
		inner, after, closed := strings.Cut(rest, "}}")
		name, dotted := strings.CutPrefix(strings.TrimSpace(inner), ".")
		if !closed || !dotted || strings.ContainsAny(name, " .|()") {
			return nil
		}
		parts, text = append(parts, name), after
	}
}

// has says whether key exists: for words that a provider may bring along, such as the names of its details.
func has(ctx context.Context, key string) bool { return localeOf(ctx).words.known[key] }

// MatchLocale chooses the language for an Accept-Language header.
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

// KnownLocale says whether tag is a language Patchbay speaks.
func KnownLocale(tag string) bool { _, ok := languageNames[tag]; return ok }

var matcher = sync.OnceValue(func() language.Matcher {
	var tags []language.Tag
	for _, t := range Languages() {
		tags = append(tags, language.MustParse(t))
	}
	return language.NewMatcher(tags)
})

// loaded reads the embedded locale files once. A broken file is caught by this package's tests, not by a reader.
var loaded = sync.OnceValue(func() map[string]*words {
	bundle := i18n.NewBundle(language.English)
	bundle.RegisterUnmarshalFunc("json", json.Unmarshal)
	all := map[string]*words{}
	for _, tag := range Languages() {
		all[tag] = &words{plain: map[string]string{}, cut: map[string][]string{}, known: map[string]bool{}, counted: map[string]bool{}}
	}
	names, _ := fs.Glob(localeFiles, "locales/*.json")
	for _, name := range names {
		body, _ := localeFiles.ReadFile(name)
		file, err := i18n.ParseMessageFileBytes(body, name, map[string]i18n.UnmarshalFunc{"json": json.Unmarshal})
		if err != nil {
			continue
		}
		w := all[file.Tag.String()]
		for _, m := range file.Messages {
			if m.Many == "" {
				m.Many = m.Other // French has a form of its own from a million on
			}
			w.known[m.ID], w.counted[m.ID] = true, m.One != ""
			switch parts := cut(m.Other); {
			case m.One != "" || parts == nil:
			case len(parts) == 1:
				w.plain[m.ID] = m.Other
			default:
				w.cut[m.ID] = parts
			}
		}
		_ = bundle.AddMessages(file.Tag, file.Messages...)
	}
	for tag, w := range all {
		w.localizer = i18n.NewLocalizer(bundle, tag)
	}
	return all
})
