package handlers

import (
	"errors"
	"net/http"
	"net/mail"
	"strings"
	"time"

	"patchbay/internal/account"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/text"
	"patchbay/views"
)

func (s *Server) forgottenPage(w http.ResponseWriter, r *http.Request) error {
	sent := visitorOf(r).shown.Email
	s.render(w, r, http.StatusOK, views.Password(views.PasswordPage{Page: s.viewPage(r), Email: sent, Sent: sent != "", NoMail: !s.Jobs.SendsMail()}))
	return nil
}

// forgotten enqueues a mail with a link for a new password. Its answer is the same whether or not a user has the address.
func (s *Server) forgotten(w http.ResponseWriter, r *http.Request) error {
	page := views.PasswordPage{Page: s.viewPage(r), Email: formText(r, "email")}
	if _, err := mail.ParseAddress(page.Email); err != nil {
		page.Errors = views.Errors{{Field: "email", Code: "email"}}
		s.render(w, r, http.StatusUnprocessableEntity, views.Password(page))
		return nil
	}
	if err := s.limitAddress(r, "forgotten", pg.Limit{Burst: 10, Every: 30 * time.Second}); err != nil {
		return err
	}
	// A limit keeps strangers from filling an inbox.
	wait, err := s.DB.Allow(r.Context(), "forgotten by "+strings.ToLower(text.Email(page.Email)), pg.Limit{Burst: 3, Every: 10 * time.Minute})
	if err != nil {
		return err
	}
	user, err := s.Accounts.UserByEmail(r.Context(), page.Email)
	if err != nil && !errors.Is(err, pg.ErrNotFound) {
		return err
	}
	if wait == 0 && s.Jobs.SendsMail() {
		m := notify.Mail{Kind: notify.MailPassword, User: user.ID}
		if user.Invited {
			m.Kind = notify.MailInvitation
		}
		if err != nil { // no user has this id, and no mail is sent: so that an answer takes as long with an account as without one
			m.User = pg.NewID()
		}
		if err := s.Jobs.SendMail(r.Context(), m); err != nil {
			return err
		}
	}
	return s.redirectToShow(w, r, "/password", shown{Email: page.Email})
}

// newPasswordPage shows the form. It does not spend the link, since mail scanners open links too.
func (s *Server) newPasswordPage(w http.ResponseWriter, r *http.Request) error {
	link, err := s.Accounts.Link(r.Context(), account.LinkPassword, pg.Secret(r.PathValue("secret")))
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.NewPassword(views.NewPasswordPage{Page: s.viewPage(r), Action: r.URL.Path, Email: link.User.Email}))
	return nil
}

func (s *Server) newPassword(w http.ResponseWriter, r *http.Request) error {
	secret := pg.Secret(r.PathValue("secret"))
	link, err := s.Accounts.Link(r.Context(), account.LinkPassword, secret)
	if err != nil {
		return err
	}
	user, err := s.Accounts.SetPassword(r.Context(), account.LinkPassword, secret, "", r.PostFormValue("password"), s.address(r), s.Jobs)
	if code := passwordError(err); code != "" {
		s.render(w, r, http.StatusUnprocessableEntity, views.NewPassword(views.NewPasswordPage{
			Page: s.viewPage(r), Action: r.URL.Path, Email: link.User.Email, Errors: views.Errors{{Field: "password", Code: code}},
		}))
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.passwordAccepted(w, r, user); err != nil {
		return err
	}
	return s.redirectWithNotice(w, r, afterSignIn(user, ""), "password-changed")
}
