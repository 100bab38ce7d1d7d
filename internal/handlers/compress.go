package handlers

import (
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzhttp"
)

// maxPacket is the size in bytes below which a page is sent as it is: it fits into one packet either way.
const maxPacket = 1400

// secretPages are the routes whose pages hold a secret that is the same at each request, or whose address is one. They are never
// compressed: how far a page shrinks would tell what in it is like what somebody else put there (BREACH).
var secretPages = map[string]bool{
	"GET /account/second-factor": true, "GET /invitations/{secret}": true, "GET /links/{secret}": true, "GET /login/second-factor": true,
	"GET /outbox": true, "GET /outbox/{id}": true, "GET /password/{secret}": true, "GET /reconnect/{secret}": true,
}

// compressed returns a handler that sends the pages of a route by gzip where the browser takes that and the page gains by it. It leaves out
// secretPages, answers to forms, and pages that show once what was just made: API keys, secrets of webhooks, recovery codes. Pages hold no
// CSRF token, as requests of other sites are told by their Origin; what else they hold that is not public is hidden by padding of up to 64
// bytes, which depends on the page and not on the try.
func (s *Server) compressed(pattern string, next http.Handler) http.Handler {
	if !strings.HasPrefix(pattern, "GET ") || secretPages[pattern] {
		return next
	}
	wrap, err := gzhttp.NewWrapper(gzhttp.EnableZstd(false), gzhttp.MinSize(maxPacket), gzhttp.ContentTypes([]string{"text/html"}), gzhttp.RandomJitter(64, 0, false))
	if err != nil { // of options that contradict each other
		return next
	}
	zipped := wrap(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := r.Cookie(s.cookieName(shownCookie)); err == nil || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		zipped.ServeHTTP(w, r)
	})
}
