package handlers

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/securecookie"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/sso"
	"patchbay/internal/status"
	"patchbay/internal/trace"
	"patchbay/views"
)

const (
	ssoRoute         = "GET /login/sso"
	ssoCallbackRoute = "GET /login/sso/callback"

	ssoCookie   = "sso"
	ssoLifetime = 10 * time.Minute // of an attempt to sign in
	maxSSONext  = 1500             // bytes: a cookie has 4096
)

// ssoAttempt is an attempt to sign in through the platform, as its browser keeps it, signed.
type ssoAttempt struct {
	sso.Attempt
	Next  string // where to go afterwards
	Until time.Time
}

// beginSSO sends the browser to the platform's provider.
func (s *Server) beginSSO(w http.ResponseWriter, r *http.Request) error {
	if s.SSO == nil {
		return pg.ErrNotFound
	}
	if isPrefetch(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := s.limitAddress(r, "sign-in through the platform", triesPerAddress()); err != nil {
		return err
	}
	next := localPath(r.URL.Query().Get("next"))
	if len(next) > maxSSONext {
		next = ""
	}
	address, attempt, err := s.SSO.Begin(r.Context())
	if err != nil {
		return s.ssoFailed(w, r, next, err)
	}
	kept, err := json.Marshal(ssoAttempt{attempt, next, s.DB.Now().Add(ssoLifetime)})
	if err != nil {
		return err
	}
	value, err := securecookie.EncodeMulti(ssoCookie, kept, s.sessions.codecs...)
	if err != nil {
		return err
	}
	s.setCookie(w, ssoCookie, value, ssoLifetime)
	return redirect(w, r, address)
}

// ssoAttemptOf returns the attempt of this browser that an answer belongs to. ok is false if there is none, or its time is over.
func (s *Server) ssoAttemptOf(r *http.Request, answer url.Values) (a ssoAttempt, ok bool) {
	cookie, err := r.Cookie(s.cookieName(ssoCookie))
	if err != nil {
		return a, false
	}
	var kept []byte
	if securecookie.DecodeMulti(ssoCookie, cookie.Value, &kept, s.sessions.codecs...) != nil || json.Unmarshal(kept, &a) != nil {
		return a, false
	}
	return a, a.State != "" && a.State == answer.Get("state") && s.DB.Now().Before(a.Until)
}

// finishSSO signs in whom the platform's provider has authenticated, or says why not.
func (s *Server) finishSSO(w http.ResponseWriter, r *http.Request) error {
	if s.SSO == nil {
		return pg.ErrNotFound
	}
	if isPrefetch(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	answer := r.URL.Query()
	attempt, ok := s.ssoAttemptOf(r, answer)
	if ok { // an attempt is finished once, also if the browser keeps its cookie
		s.setCookie(w, ssoCookie, "", -time.Second)
		wait, err := s.DB.Allow(r.Context(), "sign-in attempt "+attempt.State, pg.Limit{Burst: 1, Every: ssoLifetime})
		if err != nil {
			return err
		}
		ok = wait == 0
	}
	if v := visitorOf(r); !ok && v.role() != anonymous { // the answer came twice, and the first one signed them in
		return redirect(w, r, afterSignIn(v.user, ""))
	}
	if !ok {
		return s.ssoFailed(w, r, "", sso.ErrStale)
	}
	who, err := s.SSO.Finish(r.Context(), attempt.Attempt, answer)
	if err != nil {
		return s.ssoFailed(w, r, attempt.Next, err)
	}
	person, why, err := s.personOf(r, who)
	if err != nil {
		return err
	}
	from := s.actorOf(r, "", pg.ID{})
	var user account.User
	if why == "" {
		if user, err = s.Accounts.SignInPerson(r.Context(), person, from); errors.Is(err, account.ErrLocked) {
			why, err = ssoLocked, nil
		}
	}
	if err != nil {
		return err
	}
	if why != "" {
		if err := s.Accounts.RejectPerson(r.Context(), person, why, from); err != nil {
			return err
		}
		return s.ssoEnded(w, r, http.StatusForbidden, views.SSOEndedPage{Code: why, Next: attempt.Next})
	}
	if err := s.signIn(w, r, user); err != nil {
		return err
	}
	s.rememberBrowser(w, r)
	signedIn := audit.Event{Kind: status.UserSignedIn, Actor: s.actorOf(r, user.Role, user.ID), MerchantID: user.MerchantID, Note: s.SSOTitle}
	if err := s.DB.Audit.Record(r.Context(), signedIn); err != nil {
		return err
	}
	return redirect(w, r, afterSignIn(user, attempt.Next))
}

// The reasons why a person whom the provider authenticated is not signed in.
const (
	ssoNoRole     = "no-role"
	ssoNoMerchant = "no-merchant"       // the merchant is not known here
	ssoMerchants  = "several-merchants" // here everybody acts for one
	ssoLocked     = "locked"
)

// personOf returns the user that the provider's claims make of a person. A role of the staff counts before a merchant. why is the reason
// if they make none.
func (s *Server) personOf(r *http.Request, who sso.Person) (p account.Person, why string, err error) {
	p = account.Person{Issuer: who.Issuer, Subject: who.Subject, Name: who.Name, Email: who.Email}
	switch {
	case who.Admin:
		p.Role = audit.RoleAdmin
	case who.Support:
		p.Role = audit.RoleSupport
	case len(who.Merchants) == 0:
		return p, ssoNoRole, nil
	case len(who.Merchants) > 1:
		return p, ssoMerchants, nil
	default:
		m, err := s.DB.MerchantByExternalID(r.Context(), who.Merchants[0])
		if errors.Is(err, pg.ErrNotFound) {
			return p, ssoNoMerchant, nil
		}
		p.Role, p.MerchantID = audit.RoleMerchant, m.ID
		return p, "", err
	}
	return p, "", nil
}

// ssoFailed shows why the provider authenticated no person.
func (s *Server) ssoFailed(w http.ResponseWriter, r *http.Request, next string, err error) error {
	code, answer := "invalid", http.StatusBadGateway
	switch {
	case errors.Is(err, sso.ErrAway):
		code, answer = "away", http.StatusServiceUnavailable
	case errors.Is(err, sso.ErrDenied):
		code, answer = "denied", http.StatusForbidden
	case errors.Is(err, sso.ErrStale):
		code, answer = "stale", http.StatusBadRequest
	}
	if code == "invalid" || code == "away" {
		s.Log.WarnContext(r.Context(), "no sign-in through the platform", "err", err)
	}
	return s.ssoEnded(w, r, answer, views.SSOEndedPage{Code: code, Next: next})
}

func (s *Server) ssoEnded(w http.ResponseWriter, r *http.Request, answer int, page views.SSOEndedPage) error {
	page.Page, page.Title, page.Reference = s.viewPage(r), s.SSOTitle, trace.Request(r.Context())
	page.Path = "/login" // this address has a query that is spent
	s.render(w, r, answer, views.SSOEnded(page))
	return nil
}
