package handlers

import (
	"errors"
	"net/url"
	"strings"
)

// This file says to which addresses connect links may lead back, so that none becomes an open redirect.

var errReturnPrefix = errors.New("is not an address like https://platform.example/settings: http or https and a host, no query")

// ParseReturnPrefix reads one entry of RETURN_URLS: addresses of the same scheme, host and port are allowed whose path is the
// entry's or below it.
func ParseReturnPrefix(text string) (*url.URL, error) {
	u, err := parseReturn(text)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(text, "?#*") {
		return nil, errReturnPrefix
	}
	return u, nil
}

// parseReturn reads an address that browsers and servers read alike. It refuses what they are known to read differently: user info,
// backslashes, blanks and control characters, letters beyond ASCII, dots that climb, and slashes or dots that are percent-encoded.
func parseReturn(text string) (*url.URL, error) {
	if len(text) > 2000 || strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '\\' }) {
		return nil, errReturnPrefix
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Opaque != "" || u.User != nil || u.Hostname() == "" {
		return nil, errReturnPrefix
	}
	if !strings.HasPrefix(strings.ToLower(text), u.Scheme+"://"+strings.ToLower(u.Host)) {
		return nil, errReturnPrefix
	}
	host := u.Hostname()
	if strings.ContainsAny(host, "%@,;|<>\"'`{}^") || strings.HasSuffix(host, ".") || strings.HasSuffix(u.Host, ":") {
		return nil, errReturnPrefix
	}
	path := strings.ToLower(u.EscapedPath())
	for _, encoded := range []string{"%2e", "%2f", "%5c", "%25", "%00"} {
		if strings.Contains(path, encoded) {
			return nil, errReturnPrefix
		}
	}
	for segment := range strings.SplitSeq(path, "/") {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return nil, errReturnPrefix
		}
	}
	return u, nil
}

// returnURL reads the address of a way back. ok is false unless it is one of RETURN_URLS or below one.
func (s *Server) returnURL(text string) (u *url.URL, ok bool) {
	u, err := parseReturn(text)
	if err != nil {
		return nil, false
	}
	for _, prefix := range s.ReturnURLs {
		if u.Scheme == prefix.Scheme && originHost(u) == originHost(prefix) && hasPathPrefix(u.EscapedPath(), prefix.EscapedPath()) {
			return u, true
		}
	}
	return nil, false
}

// originHost returns an address's host with its port, also where its scheme implies it.
func originHost(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return strings.ToLower(u.Hostname()) + " " + port
}

// hasPathPrefix reports whether a path is that of a prefix, or continues it after a slash.
func hasPathPrefix(path, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

// withOutcome adds values to an address's query, and drops what it has under their names.
func withOutcome(u *url.URL, values url.Values) string {
	var kept []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if pair != "" && !strings.HasPrefix(unescape(name), "patchbay_") {
			kept = append(kept, pair)
		}
	}
	back := *u
	back.RawQuery = strings.Join(append(kept, values.Encode()), "&")
	return back.String()
}
