package handlers

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/views"
)

// mustSetUp reports whether a user may do nothing before they have set up a second factor.
func (s *Server) mustSetUp(u account.User) bool {
	return s.RequireFactor && u.Staff() && !u.SSO && !u.SecondFactor
}

// factorPendingPage returns the address at which a user gives or sets up the second factor that is pending, and goes on to next.
func (s *Server) factorPendingPage(u account.User, next string) string {
	page := "/account/second-factor"
	if u.SecondFactor {
		page = "/login/second-factor"
	}
	if next = localPath(next); next != "" && next != page {
		page += "?next=" + url.QueryEscape(next)
	}
	return page
}

// secondFactorPage asks for the second factor after the password.
func (s *Server) secondFactorPage(w http.ResponseWriter, r *http.Request) error {
	next := localPath(r.URL.Query().Get("next"))
	v := visitorOf(r)
	switch {
	case v.role() != factorPending:
		return redirect(w, r, afterSignIn(v.user, next))
	case !v.factorPending.SecondFactor:
		return redirect(w, r, s.factorPendingPage(v.factorPending, next))
	}
	page, err := s.secondFactorView(r, v.factorPending, next)
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.SecondFactor(page))
	return nil
}

func (s *Server) secondFactorView(r *http.Request, u account.User, next string) (views.SecondFactorPage, error) {
	state, err := s.Accounts.Factors(r.Context(), u.ID)
	return views.SecondFactorPage{Page: s.viewPage(r), Next: next, Codes: state.Codes, Passkeys: s.passkeys != nil && len(state.Passkeys) > 0}, err
}

// proveSecondFactor completes a sign-in with a one-time code, a recovery code or a passkey.
func (s *Server) proveSecondFactor(w http.ResponseWriter, r *http.Request) error {
	next := localPath(r.PostFormValue("next"))
	v := visitorOf(r)
	if v.role() != factorPending || !v.factorPending.SecondFactor {
		return s.secondFactorPage(w, r)
	}
	again, err := s.secondFactorView(r, v.factorPending, next)
	if err != nil {
		return err
	}
	secret := pg.NewSecret()
	if answer := r.PostFormValue("passkey"); answer != "" {
		err = s.provePasskey(r, v.factorPending, secret, answer)
	} else {
		err = s.proveCode(r, v.factorPending, secret)
	}
	var slow slowDown
	switch {
	case errors.As(err, &slow):
		again.Wait = slow.seconds()
		w.Header().Set("Retry-After", strconv.Itoa(again.Wait))
		s.render(w, r, http.StatusTooManyRequests, views.SecondFactor(again))
		return nil
	case errors.Is(err, account.ErrWrongCode):
		again.Errors = wrongCode(r)
		s.render(w, r, http.StatusUnauthorized, views.SecondFactor(again))
		return nil
	case errors.Is(err, account.ErrWrongPasskey):
		again.Errors = views.Errors{{Field: "", Code: "passkey"}}
		s.render(w, r, http.StatusUnauthorized, views.SecondFactor(again))
		return nil
	case err != nil:
		return err
	}
	if r, err = s.renewSession(w, r, secret); err != nil {
		return err
	}
	if err := s.recordSignIn(w, r, v.factorPending); err != nil {
		return err
	}
	return redirect(w, r, afterSignIn(v.factorPending, next))
}

// wrongCode returns the error of the field that a code was typed into.
func wrongCode(r *http.Request) views.Errors {
	if r.PostFormValue("code") == "" && r.PostFormValue("recovery") != "" {
		return views.Errors{{Field: "recovery", Code: "wrong"}}
	}
	return views.Errors{{Field: "code", Code: "wrong"}}
}

// codesPerAccount is how many codes may be tried: of a million there are three right ones at a time, and only who has the password
// gets as far, so that a stranger cannot keep a user from signing in by it.
func codesPerAccount() pg.Limit { return pg.Limit{Burst: 10, Every: 15 * time.Minute} }

// limitCodes waits until a code may be tried, within the limits of passwords and of codes. It returns a slowDown if that would take too
// long. A code that is right forgets the second.
func (s *Server) limitCodes(r *http.Request, u account.User) error {
	if err := s.limitSignIn(r, u.Email); err != nil {
		return err
	}
	wait, err := s.DB.Allow(r.Context(), codesKey(u), codesPerAccount())
	if err == nil && wait > 0 {
		err = slowDown(wait)
	}
	return err
}

func codesKey(u account.User) string { return "codes of " + u.ID.String() }

// proveCode spends the code of the form, completes the session, and changes its secret to next. It returns account.ErrWrongCode, and a
// slowDown.
func (s *Server) proveCode(r *http.Request, u account.User, next pg.Secret) error {
	if err := s.limitCodes(r, u); err != nil {
		return err
	}
	typed := cmp.Or(r.PostFormValue("code"), r.PostFormValue("recovery"))
	if err := s.Accounts.Prove(r.Context(), s.actor(r), u, visitorOf(r).session.Hash, next, typed, s.mailJobs()); err != nil {
		return err
	}
	return s.DB.ResetLimit(r.Context(), codesKey(u))
}

// mailJobs returns what takes mail, nil if none is sent.
func (s *Server) mailJobs() notify.Queue {
	if s.Jobs.SendsMail() {
		return s.Jobs
	}
	return nil
}

// factorUser returns the user whose second factor a page is about. ok is false if they must give it first.
func factorUser(r *http.Request) (u account.User, ok bool) {
	v := visitorOf(r)
	if v.role() == factorPending {
		return v.factorPending, !v.factorPending.SecondFactor
	}
	return v.user, true
}

// secondFactorSettings shows a user's own second factor, or how to set it up.
func (s *Server) secondFactorSettings(w http.ResponseWriter, r *http.Request) error {
	u, ok := factorUser(r)
	if !ok {
		return redirect(w, r, s.factorPendingPage(u, r.URL.Query().Get("next")))
	}
	once := visitorOf(r).shown
	return s.renderFactor(w, r, http.StatusOK, views.FactorPage{Next: localPath(r.URL.Query().Get("next")), Recovery: once.Recovery, TurnedOn: once.TurnedOn})
}

// changeSecondFactor handles the forms of a user's own second factor.
func (s *Server) changeSecondFactor(w http.ResponseWriter, r *http.Request) error {
	u, ok := factorUser(r)
	if !ok {
		return redirect(w, r, s.factorPendingPage(u, ""))
	}
	page := views.FactorPage{Next: localPath(r.PostFormValue("next"))}
	state, err := s.Accounts.Factors(r.Context(), u.ID)
	if err != nil {
		return err
	}
	do := r.PostFormValue("do")
	switch {
	case do == "on" && !state.Codes:
		if err := s.limitCodes(r, u); err != nil {
			return err
		}
		secret := pg.NewSecret()
		page.Recovery, err = s.Accounts.TurnOnCodes(r.Context(), s.actor(r), u, visitorOf(r).session, secret, r.PostFormValue("code"), s.mailJobs())
		if errors.Is(err, account.ErrWrongCode) {
			page.Errors = views.Errors{{Field: "code", Code: "wrong"}}
			return s.renderFactor(w, r, http.StatusUnprocessableEntity, page)
		}
		if err == nil && len(page.Recovery) > 0 { // the first second factor completes the session
			r, err = s.renewSession(w, r, secret)
		}
		if err == nil {
			err = s.DB.ResetLimit(r.Context(), codesKey(u))
		}
		page.TurnedOn = true
	case do == "add-passkey":
		return s.addPasskey(w, r, u, page)
	case do == "remove-passkey":
		if err = s.Accounts.RemovePasskey(r.Context(), s.actor(r), u, r.PostFormValue("id"), s.mailJobs()); err == nil {
			return s.redirectWithNotice(w, r, "/account/second-factor", "passkey-removed")
		}
	case do == "recovery":
		page.Recovery, err = s.Accounts.NewRecoveryCodes(r.Context(), s.actor(r), u)
	case do == "off" && state.Codes:
		if err = s.Accounts.TurnOffCodes(r.Context(), s.actor(r), u, s.mailJobs()); err == nil {
			return s.redirectWithNotice(w, r, "/account/second-factor", "second-factor-off")
		}
	default:
		return errMalformed
	}
	if errors.Is(err, account.ErrNoFactor) {
		return errMalformed
	}
	if err != nil {
		return err
	}
	return s.showFactor(w, r, page)
}

// factorPath returns the address of a user's own second factor, which redirects to next afterwards.
func factorPath(next string) string {
	if next == "" {
		return "/account/second-factor"
	}
	return "/account/second-factor?" + url.Values{"next": {next}}.Encode()
}

// showFactor leads to the page of the second factor, which shows once that it is on, and the recovery codes.
func (s *Server) showFactor(w http.ResponseWriter, r *http.Request, page views.FactorPage) error {
	return s.redirectToShow(w, r, factorPath(page.Next), shown{Recovery: page.Recovery, TurnedOn: page.TurnedOn})
}

// renderFactor adds a user's second factor to the page, and renders it.
func (s *Server) renderFactor(w http.ResponseWriter, r *http.Request, status int, page views.FactorPage) error {
	v := visitorOf(r)
	u, _ := factorUser(r)
	page.Page = s.viewPage(r)
	page.Path = factorPath(page.Next)
	page.Then = afterSignIn(u, page.Next)
	page.Email = u.Email
	page.FactorPending = v.role() == factorPending && !page.TurnedOn
	page.Required = s.RequireFactor
	page.Passkeys = s.passkeys != nil && !u.SSO
	var err error
	if page.State, err = s.Accounts.Factors(r.Context(), u.ID); err != nil {
		return err
	}
	if !page.State.Codes {
		page.Setup = s.Accounts.NewSetup(u, v.session, cmp.Or(s.Brand.Name, "Patchbay"))
	}
	s.render(w, r, status, views.SecondFactorSettings(page))
	return nil
}
