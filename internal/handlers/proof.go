package handlers

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/views"
)

// proofLasts is how long after staff proved who they are they may do what cannot be undone (ASVS 5.0, 7.5.3).
const proofLasts = 15 * time.Minute

// wantsProof reports whether staff who send a form of this route must have proved within proofLasts who they are. Merchants need not: what
// they disconnect is their own, and they connect it again.
func wantsProof(pattern string) bool {
	switch pattern {
	case "POST /connections/{id}/disconnect",
		"POST /account/second-factor",
		"POST /admin/events", // for how long events are kept
		"POST /admin/keys", "POST /admin/keys/{id}/revoke",
		"POST /admin/merchants/{id}/erase",
		"POST /admin/webhooks", "POST /admin/webhooks/{id}",
		"POST /admin/users", "POST /admin/users/{id}":
		return true
	default:
		return false
	}
}

// The fields of a proof, beside those of the form that it is for.
const (
	proofPassword = "proof-password"
	proofCode     = "proof-code"
	proofPasskey  = "proof-passkey"
)

var proofFields = []string{proofPassword, proofCode, proofPasskey}

// proved returns the request if the visitor may send this route's form now. If not, it returns nil and has answered with a page that asks for
// a proof and holds what was typed, which is sent with it again.
func (s *Server) proved(w http.ResponseWriter, r *http.Request, pattern string) (*http.Request, error) {
	u, open := factorUser(r)
	if !wantsProof(pattern) || !u.Staff() || !open || s.DB.Now().Sub(visitorOf(r).session.ProvedAt) < proofLasts {
		return r, nil
	}
	page := views.ProofPage{Page: s.viewPage(r), Action: r.URL.RequestURI(), Codes: u.SecondFactor, Email: u.Email}
	page.Path = refererOf(r)
	if u.SSO {
		page.SSO = "/login/sso?" + url.Values{"next": {page.Path}}.Encode()
	}
	for _, name := range slices.Sorted(maps.Keys(r.PostForm)) {
		if slices.Contains(proofFields, name) {
			continue
		}
		for _, value := range r.PostForm[name] {
			page.Fields = append(page.Fields, views.Filter{Key: name, Value: value})
		}
	}
	code := http.StatusForbidden
	if s.passkeys != nil && u.SecondFactor && !u.SSO {
		state, err := s.Accounts.Factors(r.Context(), u.ID)
		if err != nil {
			return nil, err
		}
		page.Passkeys = len(state.Passkeys) > 0
	}
	if (r.PostForm.Has(proofPassword) || r.PostForm.Has(proofPasskey)) && !u.SSO {
		secret := pg.NewSecret()
		err := s.prove(r, u, secret)
		var slow slowDown
		switch {
		case err == nil:
			for _, name := range proofFields {
				delete(r.PostForm, name)
				delete(r.Form, name)
			}
			return s.renewSession(w, r, secret)
		case errors.As(err, &slow):
			code, page.Wait = http.StatusTooManyRequests, slow.seconds()
			w.Header().Set("Retry-After", strconv.Itoa(page.Wait))
		case errors.Is(err, account.ErrWrongPassword):
			page.Errors = views.Errors{{Field: proofPassword, Code: "wrong"}}
		case errors.Is(err, account.ErrWrongCode):
			page.Errors = views.Errors{{Field: proofCode, Code: "wrong"}}
		case errors.Is(err, account.ErrWrongPasskey):
			page.Errors = views.Errors{{Field: "", Code: "passkey"}}
		default:
			return nil, err
		}
	}
	s.render(w, r, code, views.Proof(page))
	return nil, nil
}

// prove checks the form's passkey, or its password and, of a user with a second factor, the code, and changes the session's secret to
// next. It returns account.ErrWrongPasskey, account.ErrWrongPassword, account.ErrWrongCode, and a slowDown.
func (s *Server) prove(r *http.Request, u account.User, next pg.Secret) error {
	session, proved := visitorOf(r).session.Hash, audit.Event{Kind: status.UserProved, Actor: s.actor(r)}
	if answer := r.PostFormValue(proofPasskey); answer != "" {
		if err := s.provePasskey(r, u, next, answer); err != nil {
			return err
		}
		return s.DB.Audit.Record(r.Context(), proved)
	}
	turn := func() error { return s.limitSignIn(r, u.Email) }
	if u.SecondFactor {
		turn = func() error { return s.limitCodes(r, u) }
	}
	if err := turn(); err != nil {
		return err
	}
	is, err := s.Accounts.IsPassword(r.Context(), u.ID, r.PostFormValue(proofPassword))
	if err != nil {
		return err
	}
	if !is {
		return errors.Join(account.ErrWrongPassword, s.countFailure(r, u.Email))
	}
	if !u.SecondFactor {
		return s.Accounts.Proved(r.Context(), s.actor(r), session, next)
	}
	if err := s.Accounts.Prove(r.Context(), s.actor(r), u, session, next, r.PostFormValue(proofCode), s.mailJobs()); err != nil {
		return err
	}
	return errors.Join(s.DB.ResetLimit(r.Context(), codesKey(u)), s.DB.Audit.Record(r.Context(), proved))
}

// refererOf returns the page of ours that a form was on, the start page if that is unknown.
func refererOf(r *http.Request) string {
	if u, err := url.Parse(r.Referer()); err == nil && u.Host == r.Host {
		if path := localPath(u.RequestURI()); path != "" && !strings.HasPrefix(path, "/login/") {
			return path
		}
	}
	return "/"
}
