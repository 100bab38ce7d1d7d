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

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/views"
)

// Faults that every page may meet. A page that has more to say renders it itself.
var (
	errForbidden = errors.New("forbidden")
	errForeign   = errors.New("a form sent from another site")
	errTooLarge  = errors.New("the body is over 64 KB")
	errBroken    = errors.New("broken")
	errMethod    = errors.New("not by this method")
	errMalformed = errors.New("a form that cannot be read")
)

// slowDown: too many tries; how long to wait before the next.
type slowDown time.Duration

func (slowDown) Error() string { return "too many tries" }

// seconds to wait, as a header and a page say it.
func (s slowDown) seconds() int { return int((time.Duration(s) + time.Second - 1) / time.Second) }

// fail turns an error into a page. What the error says goes to the log, never to the page. At the address of a callback
// no page is drawn for what went wrong here: that would leave its query in the bar and in the history.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if strings.HasPrefix(r.URL.Path, "/api/") { // programs read problems, not pages
		s.problem(w, r, err)
		return
	}
	status, code, wait := http.StatusInternalServerError, "", 0
	var large *http.MaxBytesError
	var slow slowDown
	switch {
	case errors.Is(err, pg.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, db.ErrLink):
		status, code = http.StatusNotFound, "link"
	case errors.Is(err, errForbidden), errors.Is(err, errForeign):
		status = http.StatusForbidden
	case errors.Is(err, errMalformed):
		status = http.StatusBadRequest
	case errors.Is(err, errTooLarge), errors.As(err, &large):
		status = http.StatusRequestEntityTooLarge
	case errors.As(err, &slow):
		status, wait = http.StatusTooManyRequests, slow.seconds()
		w.Header().Set("Retry-After", strconv.Itoa(wait))
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return // nobody is there to read it
	default:
		s.Log.ErrorContext(r.Context(), "page failed", "route", r.Pattern, "err", err)
	}
	if status != http.StatusNotFound && r.Pattern == callbackRoute {
		_ = redirect(w, r, "/connect/"+url.PathEscape(r.PathValue("provider"))+"/ended/interrupted")
		return
	}
	page := s.viewPage(r)
	page.Path = r.URL.Path // a query may hold a provider's answer: nothing repeats it
	s.render(w, r, status, views.Error(views.ErrorPage{Page: page, Status: status, Code: code, Wait: wait}))
}

// render draws a page in the visitor's language and sends it whole.
func (s *Server) render(w http.ResponseWriter, r *http.Request, status int, page templ.Component) {
	v, zone := visitorOf(r), zoneOf(r)
	drawn, ok := s.drawn.Get().(*bytes.Buffer)
	if !ok {
		drawn = &bytes.Buffer{}
	}
	defer s.drawn.Put(drawn)
	drawn.Reset()
	if err := page.Render(views.WithLocale(r.Context(), v.locale, s.DB.Now(), zone), drawn); err != nil {
		if r.Context().Err() == nil {
			s.Log.ErrorContext(r.Context(), "page not drawn", "route", r.Pattern, "err", err)
		}
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(drawn.Len()))
	h.Add("Vary", "Accept-Language, Cookie")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(drawn.Bytes()) // whoever is gone needs no page
	}
}

// zoneOf is the reader's time zone; nil, which pages take for UTC and say so, until the script has told the browser's.
func zoneOf(r *http.Request) *time.Location {
	if cookie, err := r.Cookie("tz"); err == nil {
		return views.Zone(cookie.Value)
	}
	return nil
}

// zoned is a list's address in which days without a zone are the reader's. With a zone they are that one's, whoever follows
// the link: a link that is handed on shows the same.
func zoned(r *http.Request, values url.Values) (url.Values, *time.Location) {
	if values.Get("zone") != "" {
		if zone := views.Zone(values.Get("zone")); zone != nil {
			return values, zone
		}
		return values, time.UTC // nothing will be shown
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

// stack names the functions under a panic: never its value, which may hold anything.
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

// isPrefetch says whether a browser asks ahead of its user (or for the headers alone). Such a request must change nothing.
func isPrefetch(r *http.Request) bool {
	return r.Method == http.MethodHead || strings.HasPrefix(r.Header.Get("Sec-Purpose"), "prefetch") || strings.HasPrefix(r.Header.Get("Purpose"), "prefetch") ||
		strings.HasPrefix(r.Header.Get("X-Purpose"), "preview") || r.Header.Get("X-Moz") == "prefetch"
}
