package handlers

import (
	"errors"
	"net/http"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/status"
	"patchbay/views"
)

func (s *Server) accountPage(w http.ResponseWriter, r *http.Request) error {
	v := visitorOf(r)
	return s.renderAccount(w, r, http.StatusOK, views.AccountPage{Name: v.user.Name, Locale: v.user.Locale})
}

// saveAccount handles the account page's forms: name and language, password, sessions, and an admin's mails.
func (s *Server) saveAccount(w http.ResponseWriter, r *http.Request) error {
	v := visitorOf(r)
	switch r.PostFormValue("do") {
	case "save":
		name, locale := formText(r, "name"), r.PostFormValue("locale")
		if v.user.SSO {
			name = v.user.Name // as the platform's provider has it
		}
		if !views.KnownLocale(locale) {
			locale = ""
		}
		if tooLong(r, "name") { // an empty name is allowed: a user who was added without one can still choose a language
			wrong := views.Errors{{Field: "name", Code: "too-long"}}
			return s.renderAccount(w, r, http.StatusUnprocessableEntity, views.AccountPage{Name: name, Locale: locale, Errors: wrong})
		}
		if err := s.Accounts.SaveProfile(r.Context(), v.user.ID, name, locale); err != nil {
			return err
		}
		s.setCookie(w, "lang", "", -time.Second) // so that the account's own setting counts
		return s.redirectWithNotice(w, r, "/account", "saved")

	case "password":
		if v.user.SSO {
			return errMalformed
		}
		return s.changePassword(w, r)

	case "notices":
		if v.user.Role != audit.RoleAdmin {
			return errMalformed
		}
		wanted := r.PostFormValue("wanted") == "yes"
		if err := s.Accounts.SetNotices(r.Context(), v.user.ID, wanted); err != nil {
			return err
		}
		if !wanted {
			return s.redirectWithNotice(w, r, "/account#notices", "notices-off")
		}
		return s.redirectWithNotice(w, r, "/account#notices", "notices-on")

	case "end-session":
		sessions, err := s.Accounts.Sessions(r.Context(), v.user.ID)
		if err != nil {
			return err
		}
		for _, one := range sessions {
			if one.Name() == r.PostFormValue("session") {
				if err := s.Accounts.EndSession(r.Context(), v.user.ID, one.Hash); err != nil {
					return err
				}
				ended := audit.Event{Kind: status.UserSessionsEnded, Actor: s.actor(r), MerchantID: v.user.MerchantID, Note: v.user.Email}
				if err := s.DB.Audit.Record(r.Context(), ended); err != nil {
					return err
				}
			}
		}
		return s.redirectWithNotice(w, r, "/account", "session-ended") // also if it had ended before

	case "end-sessions":
		if err := s.Accounts.EndSessions(r.Context(), s.actor(r), v.user.ID, v.session.Hash); err != nil {
			return err
		}
		return s.redirectWithNotice(w, r, "/account", "sessions-ended")

	default:
		return errMalformed
	}
}

// changePassword checks the old password and ends every other session. Wrong tries are limited as at sign-in.
func (s *Server) changePassword(w http.ResponseWriter, r *http.Request) error {
	v := visitorOf(r)
	page := views.AccountPage{Name: v.user.Name, Locale: v.user.Locale}
	if err := s.rateLimit(r, "password of "+v.user.ID.String(), triesPerAccount()); err != nil {
		return err
	}
	user, err := s.Accounts.ChangePassword(r.Context(), s.actor(r), v.user, r.PostFormValue("current"), r.PostFormValue("password"), v.session, s.Jobs)
	if errors.Is(err, account.ErrWrongPassword) {
		refused := audit.Event{Kind: status.UserPasswordRefused, Actor: s.actor(r), MerchantID: v.user.MerchantID}
		if err := s.DB.Audit.Record(r.Context(), refused); err != nil {
			return err
		}
		page.Errors = views.Errors{{Field: "current", Code: "wrong"}}
	} else if code := passwordError(err); code != "" {
		page.Errors = views.Errors{{Field: "password", Code: code}}
	}
	if page.Errors != nil {
		return s.renderAccount(w, r, http.StatusUnprocessableEntity, page)
	}
	if err != nil {
		return err
	}
	if err := s.signIn(w, r, user); err != nil {
		return err
	}
	return s.redirectWithNotice(w, r, "/account", "password-changed")
}

// renderAccount adds sessions and colleagues to the page, and renders it.
func (s *Server) renderAccount(w http.ResponseWriter, r *http.Request, status int, page views.AccountPage) error {
	v := visitorOf(r)
	page.Page, page.Email, page.Notices = s.viewPage(r), v.user.Email, v.user.Notices
	if v.user.SSO {
		page.SSO = s.SSOTitle
	}
	var err error
	if page.Sessions, err = s.Accounts.Sessions(r.Context(), v.user.ID); err != nil {
		return err
	}
	page.Session = v.session.Name()
	if v.role() == merchant {
		people, err := s.Accounts.ListUsers(r.Context(), account.UserQuery{Merchant: v.merchant.ID}, "", 200)
		if err != nil {
			return err
		}
		page.People = people.Rows
	}
	s.render(w, r, status, views.AccountSettings(page))
	return nil
}

// passwordError returns the code of what is wrong with a new password, "" if err is of something else.
func passwordError(err error) string {
	switch {
	case errors.Is(err, account.ErrTooShort):
		return "too-short"
	case errors.Is(err, account.ErrTooLong):
		return "too-long"
	case errors.Is(err, account.ErrTooCommon):
		return "too-common"
	default:
		return ""
	}
}
