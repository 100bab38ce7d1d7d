package handlers

import (
	"net/http"
	"slices"
	"strings"
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

// flowCookie returns the name of a flow's cookie. It ends in the flow's id, and ids are in the order of time.
func (s *Server) flowCookie(id pg.ID) string { return "flow-" + id.String() }

// setFlowCookie gives the browser the flow's second secret, and deletes the oldest of more than eight: servers refuse a
// request whose Cookie header is too long.
func (s *Server) setFlowCookie(w http.ResponseWriter, r *http.Request, id pg.ID, secret pg.Secret) {
	s.setCookie(w, s.flowCookie(id), string(secret), db.ReplayFor)
	var names []string
	for _, cookie := range r.Cookies() {
		if strings.HasPrefix(cookie.Name, s.cookieName("flow-")) {
			names = append(names, cookie.Name)
		}
	}
	slices.Sort(names)
	for len(names) > 7 {
		s.setCookie(w, strings.TrimPrefix(names[0], s.cookieName("")), "", -time.Second)
		names = names[1:]
	}
}

// flowSecrets returns the second secrets of the flows that this browser began, by flow.
func (s *Server) flowSecrets(r *http.Request) map[pg.ID]pg.Secret {
	secrets := make(map[pg.ID]pg.Secret)
	for _, cookie := range r.Cookies() {
		if name, ok := strings.CutPrefix(cookie.Name, s.cookieName("flow-")); ok {
			if id, err := pg.ParseID(name); err == nil {
				secrets[id] = pg.Secret(cookie.Value)
			}
		}
	}
	return secrets
}

// ofBrowser reports whether this browser began the flow.
func (s *Server) ofBrowser(r *http.Request, f db.Flow) bool {
	cookie, err := r.Cookie(s.cookieName(s.flowCookie(f.ID)))
	return err == nil && f.OfBrowser(pg.Secret(cookie.Value))
}
