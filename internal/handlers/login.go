package handlers

import (
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/gorilla/securecookie"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) error {
	next := localPath(r.URL.Query().Get("next"))
	switch v := visitorOf(r); v.role() {
	case anonymous:
	case factorPending:
		return redirect(w, r, s.factorPendingPage(v.factorPending, next))
	default:
		return redirect(w, r, afterSignIn(v.user, next))
	}
	s.render(w, r, http.StatusOK, views.Login(s.loginView(r, "", next)))
	return nil
}

func (s *Server) loginView(r *http.Request, email, next string) views.LoginPage {
	return views.LoginPage{Page: s.viewPage(r), Email: email, Next: next, SSO: s.SSOTitle, Demo: s.Demo, Passkeys: s.passkeys != nil}
}

func (s *Server) login(w http.ResponseWriter, r *http.Request) error {
	email, next := formText(r, "email"), localPath(r.PostFormValue("next"))
	again := s.loginView(r, email, next)

	err := s.limitSignIn(r, email)
	var slow slowDown
	if errors.As(err, &slow) {
		again.Wait = slow.seconds()
		w.Header().Set("Retry-After", strconv.Itoa(again.Wait))
		s.render(w, r, http.StatusTooManyRequests, views.Login(again))
		return nil
	}
	if err != nil {
		return err
	}

	user, err := s.Accounts.Authenticate(r.Context(), email, r.PostFormValue("password"), s.knownDevice(r, email))
	if errors.Is(err, account.ErrBusy) {
		return slowDown(2 * time.Second)
	}
	if err == nil {
		err = s.passwordAccepted(w, r, user)
	}
	if errors.Is(err, account.ErrWrongPassword) {
		if err := s.countFailure(r, email); err != nil {
			return err
		}
		// The event names a user only if there is one: what was typed may be a password in the wrong field.
		failed := audit.Event{Kind: status.UserSignInFailed, Actor: s.actorOf(r, user.Role, user.ID), MerchantID: user.MerchantID}
		if err := s.DB.Audit.Record(r.Context(), failed); err != nil {
			return err
		}
		again.Failed = true
		s.render(w, r, http.StatusUnauthorized, views.Login(again))
		return nil
	}
	if err != nil {
		return err
	}
	return redirect(w, r, afterSignIn(user, next))
}

// passwordAccepted signs in a user whose password was right. One with a second factor is asked for it by the next page.
func (s *Server) passwordAccepted(w http.ResponseWriter, r *http.Request, user account.User) error {
	if err := s.signIn(w, r, user); err != nil || user.SecondFactor {
		return err
	}
	return s.recordSignIn(w, r, user)
}

// recordSignIn remembers the browser of a sign-in that is complete, and adds the event.
func (s *Server) recordSignIn(w http.ResponseWriter, r *http.Request, user account.User) error {
	if err := s.rememberDevice(w, user.ID); err != nil {
		return err
	}
	s.rememberBrowser(w, r)
	if err := s.DB.ResetLimit(r.Context(), s.accountKey(r, user.Email)); err != nil {
		return err
	}
	return s.DB.Audit.Record(r.Context(), audit.Event{
		Kind: status.UserSignedIn, Actor: s.actorOf(r, user.Role, user.ID), MerchantID: user.MerchantID,
	})
}

func (s *Server) logout(w http.ResponseWriter, r *http.Request) error {
	if v := visitorOf(r); v.user.ID != (pg.ID{}) {
		signedOut := audit.Event{Kind: status.UserSignedOut, Actor: s.actorOf(r, v.user.Role, v.user.ID), MerchantID: v.user.MerchantID}
		if err := s.DB.Audit.Record(r.Context(), signedOut); err != nil {
			return err
		}
	}
	if err := s.signOut(w, r); err != nil {
		return err
	}
	to := "/login"
	if next := localPath(r.PostFormValue("next")); next != "" { // to continue there as another user
		to += "?next=" + url.QueryEscape(next)
	}
	return s.redirectWithNotice(w, r, to, "signed-out")
}

// Tries to sign in are delayed, never locked out: an early try waits here, and one that would wait longer than longestWait gets a
// slowDown. What one network does to an account keeps no other network from it. Failures from many networks together are bounded
// too; a network that has hardly failed itself has a few tries left even then, and so has a browser that has signed in to the
// account before, always.
func triesPerAddress() pg.Limit    { return pg.Limit{Burst: 30, Every: time.Second} }
func triesPerAccount() pg.Limit    { return pg.Limit{Burst: 5, Every: 2 * time.Second} } // of one network or known browser
func failuresPerAccount() pg.Limit { return pg.Limit{Burst: 60, Every: time.Minute} }
func failuresPerNetwork() pg.Limit { return pg.Limit{Burst: 3, Every: 10 * time.Minute} } // at one account

const longestWait = 8 * time.Second

// limitSignIn waits until this try is within the limits. It returns a slowDown if that would take too long.
func (s *Server) limitSignIn(r *http.Request, email string) error {
	if err := s.limitAddress(r, "sign-in", triesPerAddress()); err != nil {
		return err
	}
	if !s.knownDevice(r, email) {
		wait, err := s.DB.Exhausted(r.Context(), failuresKey(email), failuresPerAccount())
		if err == nil && wait > 0 {
			wait, err = s.DB.Exhausted(r.Context(), s.failuresHereKey(r, email), failuresPerNetwork())
		}
		if err != nil {
			return err
		}
		if wait > 0 {
			return slowDown(wait)
		}
	}
	return s.rateLimit(r, s.accountKey(r, email), triesPerAccount())
}

// countFailure counts a wrong password, of a browser that is not known.
func (s *Server) countFailure(r *http.Request, email string) error {
	if s.knownDevice(r, email) {
		return nil
	}
	if _, err := s.DB.Allow(r.Context(), failuresKey(email), failuresPerAccount()); err != nil {
		return err
	}
	_, err := s.DB.Allow(r.Context(), s.failuresHereKey(r, email), failuresPerNetwork())
	return err
}

func failuresKey(email string) string {
	return "failed sign-ins to " + strings.ToLower(text.Email(email))
}

func (s *Server) failuresHereKey(r *http.Request, email string) string {
	return failuresKey(email) + " from " + network(s.address(r))
}

// limitAddress is rateLimit for what one network does. A client whose address is unknown is not limited together with all others
// of that kind: the limit of each account remains.
func (s *Server) limitAddress(r *http.Request, doing string, limit pg.Limit) error {
	address := s.address(r)
	if address == "" {
		return nil
	}
	return s.rateLimit(r, doing+" from "+network(address), limit)
}

func (s *Server) rateLimit(r *http.Request, key string, limit pg.Limit) error {
	wait, ok, err := s.DB.Wait(r.Context(), key, limit, longestWait)
	switch {
	case err != nil:
		return err
	case !ok:
		return slowDown(wait)
	}
	return s.pause(r.Context(), wait)
}

// accountKey returns the key of the rate limit for an account, whether or not the account exists.
func (s *Server) accountKey(r *http.Request, email string) string {
	key := "sign-in to " + strings.ToLower(text.Email(email))
	if s.knownDevice(r, email) {
		return key + " from a known device"
	}
	return key + " from " + network(s.address(r))
}

// rememberDevice gives this browser a rate limit of its own for the account. The cookie grants nothing else.
func (s *Server) rememberDevice(w http.ResponseWriter, user pg.ID) error {
	value, err := securecookie.EncodeMulti("device", []byte(user.String()), s.sessions.codecs...)
	if err != nil {
		return err
	}
	s.setCookie(w, "device", value, 365*24*time.Hour)
	return nil
}

func (s *Server) knownDevice(r *http.Request, email string) bool {
	cookie, err := r.Cookie(s.cookieName("device"))
	if err != nil {
		return false
	}
	var id []byte
	if securecookie.DecodeMulti("device", cookie.Value, &id, s.sessions.codecs...) != nil {
		return false
	}
	user, err := s.Accounts.UserByEmail(r.Context(), email)
	return err == nil && user.ID.String() == string(id)
}

// network returns what one party usually controls: an IPv4 address, or a /64 of IPv6.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || !a.Is6() {
		return address
	}
	prefix, err := a.Prefix(64)
	if err != nil {
		return address
	}
	return prefix.String()
}

// localPath returns text if it is a path of this site to go on to after signing in, else "".
func localPath(text string) string {
	u, err := url.Parse(text)
	if err != nil || !ownPath(text) {
		return ""
	}
	if at := path.Clean(u.Path); at == "/login" || strings.HasPrefix(at, "/login/") || at == "/logout" {
		return "" // it would lead back to signing in
	}
	return text
}

// ownPath reports whether text is a path of this site: no redirect leads elsewhere.
func ownPath(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Scheme == "" && u.Host == "" && u.User == nil && strings.HasPrefix(text, "/") && !strings.HasPrefix(text, "//") &&
		!strings.ContainsAny(text, "\\\r\n\t")
}

func afterSignIn(user account.User, next string) string {
	switch {
	case next != "" && next != "/":
		return next
	case user.Staff():
		return "/admin"
	default:
		return "/"
	}
}
