package connectors

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// object is a JSON object whose values are read by the type that we need, never trusted to have it. Numbers are
// json.Number. A nil object reads as empty.
type object map[string]any

// object returns the body as a JSON object, nil when it is anything else. The content type is not asked: providers
// send JSON as text/html, with a byte order mark, or in Latin-1.
func (a answer) object() object {
	body := bytes.TrimPrefix(a.body, []byte("\xef\xbb\xbf"))
	if !utf8.Valid(body) {
		_, params, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
		switch strings.ToLower(params["charset"]) {
		case "iso-8859-1", "latin1", "windows-1252":
			body = latin1(body)
		}
	}
	return parseObject(body)
}

func parseObject(body []byte) object {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var o object
	if d.Decode(&o) != nil {
		return nil
	}
	return o
}

func latin1(body []byte) []byte {
	runes := make([]rune, len(body))
	for i, b := range body {
		runes[i] = rune(b)
	}
	return []byte(string(runes))
}

// location is where a redirect points, resolved against the address that answered.
func (a answer) location(base string) (*url.URL, error) {
	from, err := url.Parse(base)
	if err != nil || a.status < 300 || a.status >= 400 || a.header.Get("Location") == "" {
		return nil, a.unusable()
	}
	to, err := from.Parse(a.header.Get("Location"))
	if err != nil || to.Host == "" {
		return nil, a.unusable()
	}
	return to, nil
}

// text is the first value under keys that is a non-empty string.
func (o object) text(keys ...string) string {
	for _, key := range keys {
		if s, ok := o[key].(string); ok && strings.TrimSpace(s) != "" {
			return strings.TrimSpace(s)
		}
	}
	return ""
}

// label is the first non-empty string, number or truth under keys, as text fit for a page and for Postgres.
func (o object) label(keys ...string) string {
	for _, key := range keys {
		switch o[key].(type) {
		case string, json.Number, bool:
			if s := display(o[key]); s != "" {
				return s
			}
		}
	}
	return ""
}

func (o object) object(key string) object {
	inner, _ := o[key].(map[string]any)
	return inner
}

// prose is everything under keys that a person would read, strings and lists of strings, in lower case. It is
// only ever searched for words.
func (o object) prose(keys ...string) string {
	var b strings.Builder
	for _, key := range keys {
		switch v := o[key].(type) {
		case string:
			b.WriteString(v + "\n")
		case []any:
			for _, one := range v {
				if s, ok := one.(string); ok {
					b.WriteString(s + "\n")
				}
			}
		}
	}
	return strings.ToLower(b.String())
}

// words are the members of a list, given as an array or as one string with spaces or commas.
func (o object) words(key string) []string {
	var out []string
	switch v := o[key].(type) {
	case string:
		out = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || unicode.IsSpace(r) })
	case []any:
		for _, one := range v {
			if s, ok := one.(string); ok && s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

// details lists the members of o, those of first in that order and before the rest, without what is named like a secret.
func (o object) details(first ...string) []Detail {
	keys := make([]string, 0, len(o))
	for key := range o {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	rank := func(key string) int {
		if i := slices.Index(first, key); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortStableFunc(keys, func(a, b string) int { return rank(a) - rank(b) })
	var out []Detail
	for _, key := range keys {
		if !secretName(key) && clean(key) != "" {
			out = append(out, Detail{Key: clean(key), Value: display(o[key])})
		}
	}
	return out
}

// display is a value as text: strings as they are, structures as compact JSON without what is named like a secret.
func display(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return clean(v)
	case json.Number:
		return v.String()
	case bool:
		return strconv.FormatBool(v)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if e.Encode(withoutSecrets(v)) != nil {
		return ""
	}
	return strings.TrimSpace(b.String())
}

func withoutSecrets(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := make(map[string]any, len(v))
		for key, value := range v {
			if !secretName(key) {
				kept[key] = withoutSecrets(value)
			}
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i, value := range v {
			kept[i] = withoutSecrets(value)
		}
		return kept
	}
	return v
}

func secretName(key string) bool {
	key = strings.ToLower(key)
	for _, word := range []string{"token", "secret", "password", "passwd", "pwd"} {
		if strings.Contains(key, word) {
			return true
		}
	}
	return false
}

// clean drops what neither a page nor Postgres takes: control characters (NUL above all) and broken UTF-8.
func clean(s string) string {
	s = strings.ToValidUTF8(s, "")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s)
	return strings.TrimSpace(s)
}

// accountID is an identifier fit for an index, or empty.
func accountID(s string) string {
	s = clean(s)
	if len(s) > 255 || strings.ContainsAny(s, "\n\t") {
		return ""
	}
	return s
}

// accountName is a name short enough to head a page.
func accountName(s string) string {
	s = strings.Join(strings.Fields(clean(s)), " ")
	if runes := []rune(s); len(runes) > 300 {
		return string(runes[:300])
	}
	return s
}

// accessToken is the token under keys, or empty when it is none that a header can carry (RFC 6749 appendix A.12).
func (o object) accessToken(keys ...string) string {
	token := o.text(keys...)
	for i := range len(token) {
		if token[i] < 0x20 || token[i] > 0x7e {
			return ""
		}
	}
	return token
}

// tokenType spells the common type one way (RFC 6749 section 5.1: case does not matter) and guesses it when left out.
func (o object) tokenType(keys ...string) string {
	kind := clean(o.text(keys...))
	if kind == "" || strings.EqualFold(kind, "bearer") {
		return "Bearer"
	}
	return kind
}

// claims are what a JWT says about itself, unproven: for display and lifetimes. Nil when it is no JWT.
func claims(token string) object {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	if err != nil {
		return nil
	}
	return parseObject(payload)
}

// lifetime is how long access lasts from when the answer was made: by the first sane value under keys, else by the
// token's own exp, else as the provider documents it. A written time without a zone is nobody knows whose: where it is
// far from exp, exp is right.
func (a answer) lifetime(o object, token string, documented time.Duration, keys ...string) time.Duration {
	said := claims(token)
	issued, _ := moment(said["iat"])
	own, known := a.span(said["exp"], issued)
	for _, key := range keys {
		if d, ok := a.span(o[key], issued); ok {
			if known && zoneless(o[key]) && (d-own).Abs() > time.Hour {
				return own
			}
			return d
		}
	}
	if known {
		return own
	}
	return documented
}

// span reads a lifetime in any of its wordings: seconds as number or text, "15m", "1 hour", or a moment.
func (a answer) span(v any, issued time.Time) (time.Duration, bool) {
	if at, ok := moment(v); ok {
		for _, from := range []time.Time{a.at, issued, a.now} {
			if !from.IsZero() && sane(at.Sub(from)) {
				return at.Sub(from), true
			}
		}
		return 0, false
	}
	if n, ok := number(v); ok {
		// 1e9 seconds are 31 years; beyond it a number is a moment, and moment did not want it.
		d := time.Duration(min(max(n, 0), 1e9) * float64(time.Second))
		return d, sane(d)
	}
	s, _ := v.(string)
	d := spelled(s)
	return d, sane(d)
}

func sane(d time.Duration) bool { return d >= time.Second && d <= 10*366*24*time.Hour }

// moment reads a point in time: epoch seconds or milliseconds, as number or text, or a written date.
func moment(v any) (time.Time, bool) {
	if n, ok := number(v); ok {
		switch {
		case n >= 1e9 && n < 1e11:
			return time.UnixMicro(int64(n * 1e6)), true
		case n >= 1e11 && n < 1e14:
			return time.UnixMilli(int64(n)), true
		}
		return time.Time{}, false
	}
	s, _ := v.(string)
	s = strings.TrimSpace(s)
	for _, layout := range append([]string{time.RFC3339Nano, "2006-01-02 15:04:05Z07:00"}, zonelessLayouts()...) {
		if at, err := time.Parse(layout, s); err == nil {
			return at, true
		}
	}
	at, err := http.ParseTime(s)
	return at, err == nil
}

// zonelessLayouts are read as UTC.
func zonelessLayouts() []string { return []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05"} }

func zoneless(v any) bool {
	s, _ := v.(string)
	return slices.ContainsFunc(zonelessLayouts(), func(layout string) bool {
		_, err := time.Parse(layout, strings.TrimSpace(s))
		return err == nil
	})
}

func number(v any) (float64, bool) {
	var s string
	switch v := v.(type) {
	case json.Number:
		s = v.String()
	case string:
		s = strings.TrimSpace(v)
	}
	if s == "" || strings.ContainsAny(s, "xX_pPiInN") {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && !math.IsInf(n, 0) && !math.IsNaN(n)
}

// spelled reads "15m", "1h30m", "1d" and "2 hours"; 0 when it is none of them.
func spelled(s string) time.Duration {
	s = strings.ToLower(strings.TrimSpace(s))
	if d, err := time.ParseDuration(s); err == nil {
		return d
	}
	end := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
	if end <= 0 {
		return 0
	}
	n, err := strconv.ParseFloat(s[:end], 64)
	if err != nil || n > 1e9 {
		return 0
	}
	var unit time.Duration
	switch strings.TrimSuffix(strings.TrimSpace(s[end:]), "s") {
	case "", "sec", "second":
		unit = time.Second
	case "m", "min", "minute":
		unit = time.Minute
	case "h", "hr", "hour":
		unit = time.Hour
	case "d", "day":
		unit = 24 * time.Hour
	case "w", "week":
		unit = 7 * 24 * time.Hour
	}
	if d := n * float64(unit); d < math.MaxInt64/2 {
		return time.Duration(d)
	}
	return 0
}
