package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"patchbay/internal/pg"
)

// This file removes from requests what Postgres refuses in text, before a handler reads them: NUL and bytes that are not UTF-8. The
// API refuses such requests instead.

// errNotText is returned for a request of the API with NUL or bytes that are not UTF-8.
var errNotText = invalid("a value holds NUL or bytes that are not UTF-8")

func isText(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

func cleanText(text string) string {
	if isText(text) {
		return text
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, ""), "\x00", "")
}

// cleanRequest cleans a request's path, query and headers, and turns a misspelt callback path into the callback's. It returns an error
// if the path or, for the API, the query is no text.
func (s *Server) cleanRequest(r *http.Request) error {
	for name, values := range r.Header {
		for i := range values {
			r.Header[name][i] = cleanText(values[i])
		}
	}
	s.rewriteToCallback(r)
	if query := cleanQuery(r.URL.RawQuery); query != r.URL.RawQuery {
		if strings.HasPrefix(r.URL.Path, "/api/") {
			return errNotText
		}
		r.URL.RawQuery = query
	}
	if !isText(r.URL.Path) {
		r.URL.RawQuery = ""
		return pg.ErrNotFound
	}
	return nil
}

// cleanQuery returns a query without such bytes. A query that has none is returned unchanged.
func cleanQuery(raw string) string {
	if whole, err := url.QueryUnescape(raw); err == nil && isText(whole) {
		return raw
	}
	pairs := strings.Split(raw, "&")
	for i, pair := range pairs {
		parts := strings.SplitN(pair, "=", 2)
		for j, part := range parts {
			text, err := url.QueryUnescape(part)
			switch {
			case err != nil && !isText(part):
				parts[j] = url.QueryEscape(cleanText(part))
			case err == nil && !isText(text):
				parts[j] = url.QueryEscape(cleanText(text))
			}
		}
		pairs[i] = strings.Join(parts, "=")
	}
	return strings.Join(pairs, "&")
}

// cleanForm cleans a form that has been read.
func cleanForm(form url.Values) {
	for name, values := range form {
		for i := range values {
			values[i] = cleanText(values[i])
		}
		if !isText(name) {
			delete(form, name)
		}
	}
}

// readJSON reads a program's body into asked. It returns errNotText if a text of the body holds NUL, or half of a surrogate pair,
// or bytes that are not UTF-8, all of which would be kept as something else than was sent; otherwise says what the body should be.
func readJSON(r *http.Request, asked any, otherwise string) error {
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return err
	}
	if err != nil || json.Unmarshal(body, asked) != nil {
		return invalid(otherwise)
	}
	if !utf8.Valid(body) {
		return errNotText
	}
	for tokens := json.NewDecoder(bytes.NewReader(body)); ; {
		token, err := tokens.Token()
		if err != nil {
			break
		}
		// The decoder puts U+FFFD for half of a pair.
		if text, ok := token.(string); ok && (!isText(text) || strings.ContainsRune(text, utf8.RuneError) && !bytes.ContainsRune(body, utf8.RuneError)) {
			return errNotText
		}
	}
	return nil
}

// misspeltCallback matches the address of a callback, and what providers and people make of it: slashes doubled or added, other
// case, a session's id or a file's name at the end.
var misspeltCallback = regexp.MustCompile(`(?i)^/+connect/+([^/]+)/+callback(?:[^a-z0-9_-].*)?$`)

// rewriteToCallback leads a browser that comes back next to a callback's address to the callback, which drops the query and tells how it
// ended: a page of its own would leave the code in the address bar.
func (s *Server) rewriteToCallback(r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return
	}
	found := misspeltCallback.FindStringSubmatch(r.URL.Path)
	if found == nil || !isText(r.URL.Path) {
		return
	}
	name := found[1]
	if _, err := s.provider(name); err != nil {
		name = strings.ToLower(name)
	}
	r.URL.Path, r.URL.RawPath = "/connect/"+name+"/callback", ""
}
