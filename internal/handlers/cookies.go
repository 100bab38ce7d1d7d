package handlers

import (
	"net/http"
	"time"

	"github.com/gorilla/sessions"

	"patchbay/internal/db"
	"patchbay/internal/pg"
)

// cookieName returns a cookie's full name. On https its prefix keeps subdomains from setting it (RFC 6265bis, 4.1.3.2).
func (s *Server) cookieName(name string) string {
	if s.secure {
		return "__Host-" + name
	}
	return name
}

// setCookie sets a cookie; a negative age deletes it.
func (s *Server) setCookie(w http.ResponseWriter, name, value string, age time.Duration) {
	http.SetCookie(w, sessions.NewCookie(s.cookieName(name), value, &sessions.Options{
		Path: "/", HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode, MaxAge: int(age / time.Second),
	}))
}

// browserCookie is the name of the cookie that says which browser began a flow. There is one for all flows, so that none is lost
// however many are begun at once.
const (
	browserCookie = "browser"
	browserLength = 43 // of the secrets that pg.NewSecret makes: any other value is another program's
)

// rememberBrowser returns this browser's secret, and gives it one if it has none. A sign-in does so too: two flows that begin at
// once then find the same.
func (s *Server) rememberBrowser(w http.ResponseWriter, r *http.Request) pg.Secret {
	secret, ok := s.browserSecret(r)
	if !ok {
		secret = pg.NewSecret()
	}
	s.setCookie(w, browserCookie, string(secret), 365*24*time.Hour)
	return secret
}

// browserSecret returns this browser's secret. ok is false if it has none.
func (s *Server) browserSecret(r *http.Request) (secret pg.Secret, ok bool) {
	if v := visitorOf(r); v.browser != "" {
		return v.browser, true
	}
	cookie, err := r.Cookie(s.cookieName(browserCookie))
	if err != nil || len(cookie.Value) != browserLength {
		return "", false
	}
	return pg.Secret(cookie.Value), true
}

// ofBrowser reports whether this browser began the flow.
func (s *Server) ofBrowser(r *http.Request, f db.Flow) bool {
	secret, ok := s.browserSecret(r)
	return ok && f.HasBrowser(secret)
}
