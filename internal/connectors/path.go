package connectors

import (
	"bytes"
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// This file reads values by Path, and puts values in place of names in braces.

// sources are what a Path may read.
type sources struct {
	callback                     url.Values
	answer, idToken, accessToken object
	account                      any
	input                        map[string]string
}

// sourceNames are how a Path may begin.
var sourceNames = []string{"callback", "answer", "id_token", "access_token", "account", "input"}

// at returns the value that a path names, or nil.
func (s sources) at(p Path) any {
	from, rest, _ := strings.Cut(string(p), ".")
	switch from {
	case "callback":
		if s.callback.Has(rest) {
			return s.callback.Get(rest)
		}
	case "answer":
		return walk(map[string]any(s.answer), rest)
	case "id_token":
		return walk(map[string]any(s.idToken), rest)
	case "access_token":
		return walk(map[string]any(s.accessToken), rest)
	case "account":
		return walk(s.account, rest)
	case "input":
		if value, ok := s.input[rest]; ok {
			return value
		}
	}
	return nil
}

// text returns the value that a path names as text, "" unless it is a text, number or boolean.
func (s sources) text(p Path) string {
	switch value := s.at(p).(type) {
	case string, json.Number, bool:
		return displayText(value)
	}
	return ""
}

// walk follows names of members and numbers of elements, with dots between them. It returns nil if one of them is not there.
func walk(v any, path string) any {
	for step := range strings.SplitSeq(path, ".") {
		switch inside := v.(type) {
		case map[string]any:
			v = inside[step]
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n < 0 || n >= len(inside) {
				return nil
			}
			v = inside[n]
		default:
			return nil
		}
	}
	return v
}

// any returns the body as JSON of any type, or nil.
func (r response) any() any {
	if o := r.object(); o != nil {
		return map[string]any(o)
	}
	d := json.NewDecoder(bytes.NewReader(bytes.TrimPrefix(r.body, []byte("\xef\xbb\xbf"))))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return nil
	}
	return v
}

// fault says what is wrong with a path as it is written, or "". inputs are the entry's.
func (p Path) fault(inputs Inputs) string {
	from, rest, _ := strings.Cut(string(p), ".")
	steps := strings.Split(rest, ".")
	switch {
	case !slices.Contains(sourceNames, from):
		return "must begin with " + orList(withDots(sourceNames))
	case slices.Contains(steps, ""):
		return "must name a member after each dot"
	case len(rest) > maxPath:
		return "is too long"
	case from == "callback" && slices.Contains([]string{"code", "state"}, rest), slices.ContainsFunc(steps, isToken):
		return "must not be a secret"
	}
	if from == "input" {
		i := slices.IndexFunc(inputs, func(in Input) bool { return in.Name == rest })
		if i < 0 {
			return "names no input"
		}
		if inputs[i].Secret {
			return "must not be a secret"
		}
	}
	return ""
}

const maxPath = 200 // characters below the source

// isToken says whether a member with that name holds a token or secret.
func isToken(name string) bool {
	return slices.Contains([]string{"access_token", "refresh_token", "id_token", "client_secret"}, name)
}

func withDots(names []string) (out []string) {
	for _, name := range names {
		out = append(out, name+".")
	}
	return out
}

// namePattern is a name in braces: of an input, of what is kept, or a Path.
var namePattern = regexp.MustCompile(`\{([^{}]*)\}`)

// namesIn returns the names in braces of an address or parameter.
func namesIn(template string) (names []string) {
	for _, match := range namePattern.FindAllStringSubmatch(template, -1) {
		names = append(names, match[1])
	}
	return names
}

// fillText puts values in the place of names in a parameter.
func fillText(template string, value func(name string) string) string {
	return namePattern.ReplaceAllStringFunc(template, func(match string) string { return value(match[1 : len(match)-1]) })
}

// fillAddress puts values in the place of names in an address that placeFault has passed: each is a whole segment of the path or a
// whole value of the query, and is escaped. It returns "" if a value is empty or none that may be there.
func fillAddress(template string, value func(name string) string) string {
	ok := true
	head, query, hasQuery := strings.Cut(template, "?")
	fill := func(part string, escape func(string) string) string {
		return fillText(part, func(name string) string {
			v := value(name)
			ok = ok && fits(v)
			return escape(v)
		})
	}
	address := fill(head, url.PathEscape)
	if hasQuery {
		address += "?" + fill(query, url.QueryEscape)
	}
	if !ok {
		return ""
	}
	return address
}

// fits says whether a value may be a segment of a path: "." and ".." would leave their place whatever is escaped.
func fits(v string) bool {
	return v != "" && v != "." && v != ".." && utf8.RuneCountInString(v) <= maxValue && !strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r == 0x7f })
}

// placeFault says what is wrong with the place of the names in an address, or "": each must be a whole segment of the path, or a whole
// value of the query.
func placeFault(template string) string {
	head, query, _ := strings.Cut(template, "?")
	scheme, rest, _ := strings.Cut(head, "://")
	host, path, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(scheme+host, "{}") {
		return "must not hold a name in braces before its path"
	}
	for segment := range strings.SplitSeq(path, "/") {
		if strings.ContainsAny(segment, "{}") && !wholeName.MatchString(segment) {
			return "may hold a name in braces as a whole segment of its path or a whole value of its query"
		}
	}
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if strings.ContainsAny(key, "{}") || strings.ContainsAny(value, "{}") && !wholeName.MatchString(value) {
			return "may hold a name in braces as a whole segment of its path or a whole value of its query"
		}
	}
	return ""
}

var wholeName = regexp.MustCompile(`^\{[^{}]*\}$`)
