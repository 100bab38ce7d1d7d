package handlers

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/securecookie"

	"patchbay/internal/pg"
	"patchbay/views"
)

// shown is what a page shows once after a form has led to it: what came of the form, or a secret that is kept nowhere here. A form
// answers 303 and never with a page of its own: Back would lead to the browser's error, and Reload would send it again.
type shown struct {
	User pg.ID  `json:"user,omitzero"` // the visitor who sent the form; zero for one who is not signed in
	Path string `json:"path"`          // of the page

	Outcome  *views.Outcome    `json:"outcome,omitempty"`  // of a refresh
	Link     string            `json:"link,omitempty"`     // to pass on: of an invitation, for a new password, or to reconnect
	LinkWhy  views.NoMail      `json:"link_why,omitempty"` // why it is not mailed
	Key      *views.MadeKey    `json:"key,omitempty"`
	Secret   *views.MadeSecret `json:"secret,omitempty"` // of a webhook endpoint
	Recovery []string          `json:"recovery,omitempty"`
	TurnedOn bool              `json:"turned_on,omitempty"` // the second factor
	Typed    url.Values        `json:"typed,omitempty"`     // into the page's forms before the language was changed: see setLanguage
	Email    string            `json:"email,omitempty"`     // that a link for a new password was asked for
}

const (
	shownCookie = "shown"
	shownFor    = time.Minute
)

// shownCodecs returns what encrypts and signs the cookie, with keys derived for it: the first seals, all open.
func shownCodecs(keys [][]byte) []securecookie.Codec {
	var codecs []securecookie.Codec
	for _, key := range keys {
		derived := func(purpose string) []byte {
			mac := hmac.New(sha256.New, key)
			mac.Write([]byte("patchbay cookie " + shownCookie + " " + purpose))
			return mac.Sum(nil)
		}
		codec := securecookie.New(derived("signature"), derived("encryption"))
		codecs = append(codecs, codec.MaxAge(int(shownFor/time.Second)).SetSerializer(securecookie.JSONEncoder{}))
	}
	return codecs
}

// redirectToShow redirects to a page of ours, a path that may have a query and a fragment, which shows this once to the same visitor
// within a minute.
func (s *Server) redirectToShow(w http.ResponseWriter, r *http.Request, address string, what shown) error {
	to, err := r.URL.Parse(address)
	if err != nil {
		return err
	}
	what.User, what.Path = s.actor(r).ID, to.Path
	value, err := securecookie.EncodeMulti(shownCookie, what, s.shown...)
	if err != nil {
		return fmt.Errorf("show what came of a form: %w", err)
	}
	s.setCookie(w, shownCookie, value, shownFor)
	return redirect(w, r, address)
}

// takeShown returns what this page shows now and not again.
func (s *Server) takeShown(w http.ResponseWriter, r *http.Request) (what shown) {
	cookie, err := r.Cookie(s.cookieName(shownCookie))
	if err != nil || r.Method != http.MethodGet || isPrefetch(r) {
		return shown{}
	}
	if securecookie.DecodeMulti(shownCookie, cookie.Value, &what, s.shown...) != nil || what.User != s.actor(r).ID || what.Path != r.URL.Path {
		return shown{}
	}
	s.setCookie(w, shownCookie, "", -time.Second)
	return what
}
