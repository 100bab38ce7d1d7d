package handlers

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/a-h/templ"

	"patchbay/internal/account"
	"patchbay/internal/pg"
	"patchbay/internal/refresh"
	"patchbay/internal/seal"
	"patchbay/internal/trace"
	"patchbay/views"
)

// Errors that any page may return. A page that can say more renders it itself.
var (
	errForbidden = errors.New("forbidden")
	errCrossSite = errors.New("a form sent from another site")
	errTooLarge  = errors.New("the body is over 64 KB")
	errBroken    = errors.New("broken")
	errMethod    = errors.New("not by this method")
	errMalformed = errors.New("a form that cannot be read")

	errMisdirected = errors.New("asked for under another host than PUBLIC_URL's")
)

// slowDown is the error of a rate limit: how long to wait before the next try.
type slowDown time.Duration

func (slowDown) Error() string { return "too many tries" }

// seconds returns the wait in whole seconds, rounded up, for Retry-After and the page.
func (s slowDown) seconds() int { return int((time.Duration(s) + time.Second - 1) / time.Second) }

// fail turns an error into a page. The error's text goes to the log, never to the page. At a callback's address it
// redirects instead, so that no query is left in the address bar and the history.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if strings.HasPrefix(r.URL.Path, "/api/") { // RFC 9457 instead of a page
		s.problem(w, r, err)
		return
	}
	status, code, wait := http.StatusInternalServerError, "", 0
	var large *http.MaxBytesError
	var slow slowDown
	switch {
	case errors.Is(err, pg.ErrNotFound), pg.ViolatesForeignKey(err):
		status = http.StatusNotFound
	case errors.Is(err, account.ErrInvalidLink):
		status, code = http.StatusNotFound, "link"
	case errors.Is(err, errForbidden), errors.Is(err, errCrossSite), errors.Is(err, account.ErrWrongPassword): // locked while signing in
		status = http.StatusForbidden
	case errors.Is(err, errMalformed):
		status = http.StatusBadRequest
	case errors.Is(err, errMisdirected):
		status = http.StatusMisdirectedRequest
	case errors.Is(err, errTooLarge), errors.As(err, &large):
		status = http.StatusRequestEntityTooLarge
	case errors.As(err, &slow):
		status, wait = http.StatusTooManyRequests, slow.seconds()
		w.Header().Set("Retry-After", strconv.Itoa(wait))
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return // the browser has gone
	case unavailable(err):
		s.Log.WarnContext(r.Context(), "the database cannot be used", "route", r.Pattern, "err", err)
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", strconv.Itoa(unavailableFor))
	default:
		s.Log.ErrorContext(r.Context(), "page failed", "route", r.Pattern, "err", err)
	}
	if status == http.StatusNotFound && r.Pattern == callbackRoute && r.URL.RawQuery != "" {
		_ = redirect(w, r, r.URL.EscapedPath())
		return
	}
	if status != http.StatusNotFound && r.Pattern == callbackRoute {
		_ = redirect(w, r, "/connect/"+url.PathEscape(r.PathValue("provider"))+"/ended/interrupted")
		return
	}
	page := s.viewPage(r)
	page.Path = r.URL.Path // without the query, which may hold a provider's answer
	s.render(w, r.WithContext(context.WithoutCancel(r.Context())), status, views.Error(views.ErrorPage{Page: page, Status: status, Code: code, Wait: wait, Reference: trace.Request(r.Context())}))
}

// unavailable reports whether the database cannot be used for now, hangs, keeps nothing, or holds what only another process can
// verify: the same request may succeed later.
func unavailable(err error) bool {
	return pg.Unavailable(err) || errors.Is(err, seal.ErrUnknownKey) || errors.Is(err, refresh.ErrUnsaved) || errors.Is(err, context.DeadlineExceeded)
}

// words returns the context in which views write in the visitor's language.
func (s *Server) words(r *http.Request) context.Context {
	return views.WithBrand(views.WithLocale(r.Context(), visitorOf(r).locale, s.DB.Now(), zoneOf(r)), &s.Brand)
}

// render renders a page in the visitor's language. It sends nothing of a page whose rendering fails.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, page templ.Component) {
	drawn, ok := s.buffers.Get().(*bytes.Buffer)
	if !ok {
		drawn = &bytes.Buffer{}
	}
	defer s.buffers.Put(drawn)
	drawn.Reset()
	if err := page.Render(s.words(r), drawn); err != nil {
		if r.Context().Err() == nil {
			s.Log.ErrorContext(r.Context(), "page not drawn", "route", r.Pattern, "err", err)
		}
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	if typed := visitorOf(r).shown.Typed; typed != nil {
		if err := fillForms(drawn, typed); err != nil {
			s.Log.ErrorContext(r.Context(), "forms not filled in", "route", r.Pattern, "err", err)
		}
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(drawn.Len()))
	h.Add("Vary", "Accept-Language, Cookie")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(drawn.Bytes()) // the browser may have gone
	}
}

// zoneOf returns the browser's time zone from the cookie that our script sets. It returns nil without one, which means UTC.
func zoneOf(r *http.Request) *time.Location {
	for _, name := range []string{"__Host-tz", "tz"} { // the latter over plain HTTP
		if cookie, err := r.Cookie(name); err == nil {
			return views.Zone(cookie.Value)
		}
	}
	return nil
}

// zoned adds the browser's time zone to the query of a list, unless it names one: a link that is passed on shows the same
// days to every reader. It returns the zone too.
func zoned(r *http.Request, values url.Values) (url.Values, *time.Location) {
	if values.Get("zone") != "" {
		if zone := views.Zone(values.Get("zone")); zone != nil {
			return values, zone
		}
		return values, time.UTC // the filter refuses the zone, and the list is empty
	}
	zone := zoneOf(r)
	if zone == nil {
		zone = time.UTC
	}
	values = maps.Clone(values)
	values.Set("zone", zone.String())
	return values, zone
}

// redirect answers 303 See Other: the browser goes on to path with GET.
func redirect(w http.ResponseWriter, r *http.Request, path string) error {
	http.Redirect(w, r, path, http.StatusSeeOther)
	return nil
}

// stack returns the names of our functions on the stack of a panic. Its value is not logged, since it may hold a secret.
func stack() string {
	var names []string
	pcs := make([]uintptr, 24)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs)])
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "patchbay/") {
			names = append(names, frame.Function)
		}
		if !more {
			return strings.Join(names, " < ")
		}
	}
}

// isPrefetch reports whether a browser asks ahead of its user, or for headers alone. Such a request must change nothing.
func isPrefetch(r *http.Request) bool {
	return r.Method == http.MethodHead || strings.HasPrefix(r.Header.Get("Sec-Purpose"), "prefetch") || strings.HasPrefix(r.Header.Get("Purpose"), "prefetch") ||
		strings.HasPrefix(r.Header.Get("X-Purpose"), "preview") || r.Header.Get("X-Moz") == "prefetch"
}
