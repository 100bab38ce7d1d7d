package connectors

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"patchbay/internal/text"
)

// response is what came back, read to its end.
type response struct {
	status     int
	header     http.Header
	body       []byte
	date       time.Time // when it was made, by the provider's clock; zero if it did not say
	receivedAt time.Time // when it was read, by ours
	secrets    []string  // what we sent that no log may repeat
	inside     bool      // it came from this machine or a private network, by no proxy
}

// ok says whether the status is a 2xx.
func (r response) ok() bool { return r.status >= 200 && r.status < 300 }

// rateLimited returns *RateLimitedError for a 429, and *TemporaryError for a 503, whatever it says of when to come
// back: maintenance is an outage.
func (r response) rateLimited() error {
	switch r.status {
	case http.StatusTooManyRequests:
		if after, named := r.retryAfter(); named {
			return &RateLimitedError{RetryAfter: min(max(after, time.Second), maxRetryAfter)}
		}
		return &RateLimitedError{RetryAfter: defaultRetryAfter}
	case http.StatusServiceUnavailable:
		return r.unexpected()
	}
	return nil
}

// retryAfter reads the Retry-After header (RFC 9110 section 10.2.3). A date is counted by the provider's own clock.
func (r response) retryAfter() (after time.Duration, named bool) {
	value := strings.TrimSpace(r.header.Get("Retry-After"))
	if n, err := strconv.ParseInt(value, 10, 32); err == nil && n >= 0 {
		return time.Duration(n) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	if r.date.IsZero() {
		return at.Sub(r.receivedAt), true
	}
	return at.Sub(r.date), true
}

// unexpected says what is wrong with a response that is no rejection and holds nothing that was asked for. members are
// the names of what was looked for in it, the documented one first.
func (r response) unexpected(members ...string) error {
	switch {
	case r.status >= 300 && r.status < 400:
		return &TemporaryError{Reason: "redirected", Detail: r.statusText()}
	case r.status >= 500:
		after, _ := r.retryAfter()
		return &TemporaryError{Reason: ReasonStatus, Detail: r.statusText(), RetryAfter: min(max(after, 0), maxRetryAfter)}
	case r.status == http.StatusUnauthorized, r.status == http.StatusRequestTimeout, r.status == http.StatusTooEarly:
		return &TemporaryError{Reason: ReasonStatus, Detail: r.statusText()}
	case !r.ok():
		return &UnreadableError{Reason: ReasonStatus, Detail: r.statusText() + r.codeText()}
	}
	o := r.object()
	if o == nil {
		return &UnreadableError{Reason: ReasonUnreadable, Detail: r.statusText() + ", " + r.shape()}
	}
	return &UnreadableError{Reason: "no-token", Detail: r.statusText() + ", " + r.lacks(o, members...) + r.codeText()}
}

func (r response) statusText() string { return "HTTP " + strconv.Itoa(r.status) }

func (r response) codeText() string {
	if code := r.errorCode(); code != "" {
		return ", error " + code
	}
	return ""
}

var contentTypeShape = regexp.MustCompile(`^[a-z]{1,20}/[a-z0-9.+-]{1,40}$`)

// shape says what the body is instead of a JSON object.
func (r response) shape() string {
	kind, _, _ := mime.ParseMediaType(r.header.Get("Content-Type"))
	switch {
	case r.header.Get("Content-Type") == "":
		kind = "no content type"
	case !contentTypeShape.MatchString(kind) || r.echoes(kind):
		kind = "an odd content type"
	}
	body := bytes.TrimSpace(r.body)
	var v any
	switch {
	case len(body) == 0:
		return kind + ", empty body"
	case json.Unmarshal(body, &v) == nil:
		return kind + ", " + jsonType(v) + " and not a JSON object"
	}
	return kind + ", not JSON"
}

// lacks says why none of the members could be read: the first that is there has another type, or all are missing.
func (r response) lacks(o object, members ...string) string {
	if len(members) == 0 {
		return "nothing of what was asked for"
	}
	for _, name := range members {
		switch v := o[name].(type) {
		case nil:
		case string:
			if strings.TrimSpace(v) == "" {
				return name + " is empty"
			}
			return name + " holds characters that no header carries"
		default:
			return name + " is " + jsonType(v)
		}
	}
	return members[0] + " is missing"
}

func jsonType(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a text"
	case bool:
		return "true or false"
	case []any:
		return "a list"
	case map[string]any:
		return "an object"
	}
	return "a number"
}

// echoes says whether s repeats something that we sent.
func (r response) echoes(s string) bool {
	for _, secret := range r.secrets {
		if len(secret) >= 8 && strings.Contains(s, secret) || len(s) >= 12 && strings.Contains(secret, s) {
			return true
		}
	}
	return false
}

// acknowledgement reads the response to a call that returns nothing: a 2xx of any shape but a web page, which another
// machine sent.
func (r response) acknowledgement() error {
	if !r.ok() || bytes.HasPrefix(bytes.TrimSpace(r.body), []byte("<")) {
		return r.unexpected()
	}
	return nil
}

var errorCodeShape = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)

// errorCode returns the provider's own error code for the record, or "" if it does not look like one or repeats
// something that we sent.
func (r response) errorCode() string {
	o := r.object()
	code := o.displayString("error", "respCode", "error_code", "errorCode", "code")
	if inner := o.object("error"); inner != nil {
		code = inner.displayString("code", "type", "error")
	}
	if !errorCodeShape.MatchString(code) || r.echoes(code) {
		return ""
	}
	return code
}

// location returns where a redirect points, resolved against the address that answered.
func (r response) location(base string) (*url.URL, error) {
	from, err := url.Parse(base)
	if err != nil || r.status < 300 || r.status >= 400 || r.header.Get("Location") == "" {
		return nil, r.unexpected()
	}
	to, err := from.Parse(r.header.Get("Location"))
	if err != nil || to.Host == "" {
		return nil, r.unexpected()
	}
	return to, nil
}

// object returns the body as a JSON object, or nil if it is anything else. It ignores the content type: providers send
// JSON as text/html, with a byte order mark, or in Latin-1. A form is read as an object of strings.
func (r response) object() object {
	body := bytes.TrimPrefix(r.body, []byte("\xef\xbb\xbf"))
	kind, params, _ := mime.ParseMediaType(r.header.Get("Content-Type"))
	if !utf8.Valid(body) {
		switch strings.ToLower(params["charset"]) {
		case "iso-8859-1", "latin1", "windows-1252":
			body = fromLatin1(body)
		}
	}
	if o := parseObject(body); o != nil {
		return o
	}
	return parseForm(kind, string(bytes.TrimSpace(body)))
}

// parseForm reads an answer in application/x-www-form-urlencoded, also where it calls itself text/plain, as GitHub's and
// Facebook's older ones do.
func parseForm(kind, body string) object {
	form := kind == "application/x-www-form-urlencoded"
	plain := (kind == "text/plain" || kind == "text/html" || kind == "") && (strings.HasPrefix(body, "access_token=") || strings.HasPrefix(body, "error=") || strings.Contains(body, "&access_token="))
	if !form && !plain || strings.ContainsAny(body, "<{ \n") {
		return nil
	}
	values, err := url.ParseQuery(body)
	if err != nil || len(values) == 0 || !strings.Contains(body, "=") {
		return nil
	}
	o := make(object, len(values))
	for name := range values {
		o[name] = values.Get(name)
	}
	return o
}

func fromLatin1(body []byte) []byte {
	runes := make([]rune, len(body))
	for i, b := range body {
		runes[i] = rune(b)
	}
	return []byte(string(runes))
}

// object is a JSON object of unknown shape: each value is read as the type that is needed, and is absent if it has
// another. Numbers are json.Number. A nil object reads as empty.
type object map[string]any

func parseObject(body []byte) object {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var o object
	if d.Decode(&o) != nil {
		return nil
	}
	return o
}

// str returns the first value under keys that is a non-empty string, without the space around it.
func (o object) str(keys ...string) string {
	for _, key := range keys {
		if s, ok := o[key].(string); ok && strings.TrimSpace(s) != "" {
			return strings.TrimSpace(s)
		}
	}
	return ""
}

// displayString returns the first non-empty string, number or boolean under keys, as text fit for a page and for Postgres.
func (o object) displayString(keys ...string) string {
	for _, key := range keys {
		switch o[key].(type) {
		case string, json.Number, bool:
			if s := displayText(o[key]); s != "" {
				return s
			}
		}
	}
	return ""
}

// object returns the object under key, or nil.
func (o object) object(key string) object {
	inner, _ := o[key].(map[string]any)
	return inner
}

// text joins the strings and lists of strings under keys, a line each. It is only searched for words, never kept.
func (o object) text(keys ...string) string {
	var lines []string
	for _, key := range keys {
		switch v := o[key].(type) {
		case string:
			lines = append(lines, v)
		case []any:
			for _, one := range v {
				if s, ok := one.(string); ok {
					lines = append(lines, s)
				}
			}
		}
	}
	return strings.Join(lines, "\n")
}

// strings returns the members of a list, given as an array or as one string with spaces or commas.
func (o object) strings(key string) []string {
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

// scopes returns the scopes of a list, without what no text has.
func (o object) scopes(key string) []string {
	var out []string
	for _, scope := range o.strings(key) {
		if scope = text.Clean(scope); scope != "" {
			out = append(out, scope)
		}
	}
	return out
}

// details lists the members of o by name, those of first before the rest and in their order. Members with the name of a
// secret are left out.
func (o object) details(first ...string) []Detail {
	rank := func(key string) int {
		if i := slices.Index(first, key); i >= 0 {
			return i
		}
		return len(first)
	}
	keys := slices.SortedFunc(maps.Keys(o), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	var out []Detail
	for _, key := range keys {
		if !namesSecret(key) && text.Clean(key) != "" {
			out = append(out, Detail{Key: text.Clean(key), Value: displayText(o[key])})
		}
	}
	return out
}

// accessToken returns the first token under keys, or "" if no header can carry it (RFC 6749 appendix A.12).
func (o object) accessToken(keys ...string) string {
	token := o.str(keys...)
	for i := range len(token) {
		if token[i] < 0x20 || token[i] > 0x7e {
			return ""
		}
	}
	return token
}

// tokenType returns the token's type, with one spelling for Bearer (RFC 6749 section 5.1: case does not matter), which
// is also what a missing type means.
func (o object) tokenType(keys ...string) string {
	kind := text.Clean(o.str(keys...))
	if kind == "" || strings.EqualFold(kind, "bearer") {
		return "Bearer"
	}
	return kind
}

// proofTypes are the token types that are useless without a proof of possession, which we do not make: MAC, RFC 9449 and
// RFC 7800.
var proofTypes = []string{"mac", "dpop", "pop"}

// usable returns the token, or an error for one of a type that may not be used without understanding it (RFC 6749 section
// 7.1). Any other word in the type's place is used as Bearer.
func usable(t Token) (Token, error) {
	if i := slices.Index(proofTypes, strings.ToLower(t.Type)); i >= 0 {
		return Token{}, &RejectedError{Reason: "token-type", Detail: "token_type " + proofTypes[i] + " wants a proof of possession", ClientFault: true}
	}
	return t, nil
}

// unverifiedClaims returns what a JWT says about itself, for display and lifetimes only. It is nil if token is no JWT.
func unverifiedClaims(token string) object {
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

// displayText returns a value as text: a string as it is, a structure as compact JSON without the members that have the
// name of a secret.
func displayText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return text.Clean(v)
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
	return text.Clean(b.String())
}

func withoutSecrets(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := make(map[string]any, len(v))
		for key, value := range v {
			if !namesSecret(key) {
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

var secretWords = []string{"token", "secret", "password", "passwd", "pwd"}

// namesSecret says whether a member with that name probably holds a secret.
func namesSecret(key string) bool {
	key = strings.ToLower(key)
	return slices.ContainsFunc(secretWords, func(word string) bool { return strings.Contains(key, word) })
}

// maxAccountID is the longest account id, in characters: an index takes it.
const maxAccountID = 255

// accountID returns s as an identifier fit for an index, or "".
func accountID(s string) string {
	s = text.Clean(s)
	if utf8.RuneCountInString(s) > maxAccountID || strings.ContainsAny(s, "\n\t") {
		return ""
	}
	return s
}

// accountName returns s as a name short enough for the head of a page: at most 300 characters.
func accountName(s string) string {
	s = text.Name(s)
	if runes := []rune(s); len(runes) > 300 {
		return text.Name(string(runes[:300]))
	}
	return s
}
