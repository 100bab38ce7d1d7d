package handlers

import (
	"net/http"

	"patchbay/internal/account"
	"patchbay/internal/pg"
	"patchbay/views"
)

// invitationPage shows the invitation. Opening it does not spend the link.
func (s *Server) invitationPage(w http.ResponseWriter, r *http.Request) error {
	link, err := s.Accounts.Link(r.Context(), account.LinkInvitation, pg.Secret(r.PathValue("secret")))
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.Invitation(s.invitation(r, link)))
	return nil
}

// acceptInvitation sets the password, spends the link and signs the user in.
func (s *Server) acceptInvitation(w http.ResponseWriter, r *http.Request) error {
	secret := pg.Secret(r.PathValue("secret"))
	link, err := s.Accounts.Link(r.Context(), account.LinkInvitation, secret)
	if err != nil {
		return err
	}
	page := s.invitation(r, link)
	page.Name = formText(r, "name")
	if page.Name == "" {
		page.Errors = append(page.Errors, views.FieldError{Field: "name", Code: "missing"})
	} else if tooLong(r, "name") {
		page.Errors = append(page.Errors, views.FieldError{Field: "name", Code: "too-long"})
	}
	if code := passwordError(s.Accounts.CheckPassword(r.PostFormValue("password"), link.User.Email, page.Name)); code != "" {
		page.Errors = append(page.Errors, views.FieldError{Field: "password", Code: code})
	}
	if len(page.Errors) > 0 {
		s.render(w, r, http.StatusUnprocessableEntity, views.Invitation(page))
		return nil
	}
	user, err := s.Accounts.SetPassword(r.Context(), account.LinkInvitation, secret, page.Name, r.PostFormValue("password"), s.address(r), s.Jobs)
	if err != nil {
		return err
	}
	if err := s.passwordAccepted(w, r, user); err != nil {
		return err
	}
	return s.redirectWithNotice(w, r, afterSignIn(user, ""), "welcome")
}

func (s *Server) invitation(r *http.Request, link account.Link) views.InvitationPage {
	return views.InvitationPage{
		Page: s.viewPage(r), Action: r.URL.Path, Merchant: link.Merchant.Name, Role: link.User.Role, Email: link.User.Email,
		Name: link.User.Name, InvitedBy: link.By,
	}
}
