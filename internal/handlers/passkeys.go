package handlers

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

// passkeyBrowser returns the browser of a request, as passkeys know it. It returns account.ErrWrongPasskey for one that was given no
// challenge.
func (s *Server) passkeyBrowser(r *http.Request) (account.Browser, error) {
	secret, ok := s.browserSecret(r)
	if s.passkeys == nil || !ok {
		return account.Browser{}, account.ErrWrongPasskey
	}
	return account.Browser{RelyingParty: s.passkeys, Secret: secret}, nil
}

// challenge gives the script of a page a challenge for the purpose that the page's form names.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request) error {
	if s.passkeys == nil {
		return pg.ErrNotFound
	}
	v := visitorOf(r)
	own, open := factorUser(r)
	purpose := account.PasskeyPurpose(r.PostFormValue("purpose"))
	var allowed bool
	switch purpose {
	case account.PasskeySignIn:
		allowed, own = v.role() == anonymous, account.User{}
	case account.PasskeyProof:
		allowed = own.Staff() && !own.SSO
	case account.PasskeyAdd:
		allowed = own.Staff() && !own.SSO && open
	}
	if !allowed {
		return errForbidden
	}
	if err := s.limitAddress(r, "passkeys", triesPerAddress()); err != nil {
		return err
	}
	browser := account.Browser{RelyingParty: s.passkeys, Secret: s.rememberBrowser(w, r)}
	options, err := s.Accounts.Challenge(r.Context(), browser, purpose, own)
	if errors.Is(err, account.ErrNoFactor) {
		return errForbidden
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(options)
}

// loginByPasskey signs in by a passkey alone.
func (s *Server) loginByPasskey(w http.ResponseWriter, r *http.Request) error {
	if s.passkeys == nil {
		return pg.ErrNotFound
	}
	if visitorOf(r).role() != anonymous {
		return s.loginPage(w, r)
	}
	next := localPath(r.PostFormValue("next"))
	again := s.loginView(r, "", next)
	err := s.limitAddress(r, "sign-in", triesPerAddress())
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
	var user account.User
	browser, err := s.passkeyBrowser(r)
	if err == nil {
		user, err = s.Accounts.AuthenticatePasskey(r.Context(), s.actor(r), browser, r.PostFormValue("passkey"))
	}
	if err == nil {
		err = s.signIn(w, r, user)
	}
	if errors.Is(err, account.ErrWrongPasskey) || errors.Is(err, account.ErrWrongPassword) {
		failed := audit.Event{Kind: status.UserSignInFailed, Actor: s.actorOf(r, user.Role, user.ID)}
		if err := s.DB.Audit.Record(r.Context(), failed); err != nil {
			return err
		}
		again.PasskeyFailed = true
		s.render(w, r, http.StatusUnauthorized, views.Login(again))
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.recordSignIn(w, r, user); err != nil {
		return err
	}
	return redirect(w, r, afterSignIn(user, next))
}

// provePasskey completes the session by an answer of the user's passkey, and changes its secret to next. It returns account.ErrWrongPasskey.
func (s *Server) provePasskey(r *http.Request, u account.User, next pg.Secret, answer string) error {
	browser, err := s.passkeyBrowser(r)
	if err != nil {
		return err
	}
	return s.Accounts.ProvePasskey(r.Context(), s.actor(r), u, visitorOf(r).session.Hash, next, browser, answer)
}

// addPasskey adds the passkey of the form. A form that it cannot take is shown again.
func (s *Server) addPasskey(w http.ResponseWriter, r *http.Request, u account.User, page views.FactorPage) error {
	if u.SSO {
		return errForbidden
	}
	name := formText(r, "name")
	if name == "" {
		page.Errors = views.Errors{{Field: "name", Code: "missing"}}
		return s.renderFactor(w, r, http.StatusUnprocessableEntity, page)
	}
	next := pg.NewSecret()
	browser, err := s.passkeyBrowser(r)
	if err == nil {
		page.Recovery, err = s.Accounts.AddPasskey(r.Context(), s.actor(r), u, visitorOf(r).session, next, browser, name, r.PostFormValue("passkey"), s.mailJobs())
	}
	switch {
	case errors.Is(err, text.ErrTooLong):
		page.Errors = views.Errors{{Field: "name", Code: "too-long"}}
	case errors.Is(err, account.ErrWrongPasskey):
		page.Errors = views.Errors{{Field: "", Code: "passkey"}}
	case errors.Is(err, account.ErrTooManyPasskeys):
		page.Errors = views.Errors{{Field: "", Code: "too-many-passkeys"}}
	case err != nil:
		return err
	case len(page.Recovery) == 0:
		return s.redirectWithNotice(w, r, "/account/second-factor", "passkey-added")
	default:
		if r, err = s.renewSession(w, r, next); err != nil {
			return err
		}
		page.TurnedOn = true
		return s.showFactor(w, r, page)
	}
	return s.renderFactor(w, r, http.StatusUnprocessableEntity, page)
}
