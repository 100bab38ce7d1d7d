package handlers

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

const peopleOnPage = 50

// adminUsers lists users: all, those of a role, or those found by name or e-mail address.
func (s *Server) adminUsers(w http.ResponseWriter, r *http.Request) error {
	return s.renderUsers(w, r, http.StatusOK, views.InviteForm{Role: audit.RoleMerchant, Link: visitorOf(r).shown.Link})
}

// inviteUser adds a user, who chooses the password by a link in a mail or, if no mail is set up, by a link shown to staff.
func (s *Server) inviteUser(w http.ResponseWriter, r *http.Request) error {
	form := views.InviteForm{Email: formText(r, "email"), Name: formText(r, "name"), Role: audit.Role(r.PostFormValue("role")), Merchant: formText(r, "merchant")}
	n := account.NewUser{Role: form.Role, Email: form.Email, Name: form.Name}
	if tooLong(r, "name") {
		form.Errors = append(form.Errors, views.FieldError{Field: "name", Code: "too-long"})
	}
	var of pg.ID // the merchant on whose page the form is; zero for the list of all users
	if r.PostFormValue("from") == fromMerchant {
		var err error
		if of, err = pg.ParseID(form.Merchant); err != nil {
			return err
		}
		form.Role, n.Role, n.MerchantID = audit.RoleMerchant, audit.RoleMerchant, of
	} else if n.Role == audit.RoleMerchant {
		m, code, err := s.merchantByText(r, form.Merchant)
		if err != nil {
			return err
		}
		if n.MerchantID = m.ID; code != "" {
			form.Errors = append(form.Errors, views.FieldError{Field: "merchant", Code: code})
		}
	} else if form.Merchant != "" {
		form.Errors = append(form.Errors, views.FieldError{Field: "merchant", Code: "staff"})
	}
	if len(form.Errors) > 0 {
		return s.renderPeople(w, r, of, http.StatusUnprocessableEntity, form)
	}
	if s.Jobs.SendsMail() {
		n.Jobs = s.Jobs
	}
	user, err := s.Accounts.AddUser(r.Context(), s.actor(r), n)
	switch {
	case errors.Is(err, account.ErrInvalidEmail):
		form.Errors = views.Errors{{Field: "email", Code: "email"}}
	case errors.Is(err, account.ErrEmailTaken):
		form.Errors = views.Errors{{Field: "email", Code: "taken"}}
	case errors.Is(err, account.ErrInvalidRole):
		form.Errors = views.Errors{{Field: "role", Code: "not-offered"}}
	case err != nil:
		return err
	case s.Jobs.SendsMail():
		return s.redirectWithNotice(w, r, peoplePage(r, of), "invited")
	default:
		return s.showLink(w, r, user, of)
	}
	return s.renderPeople(w, r, of, http.StatusUnprocessableEntity, form)
}

// merchantByText returns the merchant with the typed id, name or external id. code is an error's, "" if there is none.
func (s *Server) merchantByText(r *http.Request, typed string) (m db.Merchant, code string, err error) {
	if typed == "" {
		return m, "missing", nil
	}
	err = pg.ErrNotFound
	if id, parseErr := pg.ParseID(typed); parseErr == nil {
		m, err = s.DB.Merchant(r.Context(), id)
	}
	if errors.Is(err, pg.ErrNotFound) {
		m, err = s.DB.MerchantByName(r.Context(), typed)
	}
	switch {
	case errors.Is(err, pg.ErrNotFound):
		return m, "unknown", nil
	case errors.Is(err, db.ErrAmbiguousName):
		return m, "several", nil
	default:
		return m, "", err
	}
}

// showLink makes the link by which a user chooses a password, and shows it once, for staff to pass on.
func (s *Server) showLink(w http.ResponseWriter, r *http.Request, user account.User, of pg.ID) error {
	kind, path := account.LinkPassword, "/password/"
	if user.Invited {
		kind, path = account.LinkInvitation, "/invitations/"
	}
	secret, _, err := s.Accounts.AddLink(r.Context(), s.actor(r), kind, user.ID, pg.ID{})
	if err != nil {
		return err
	}
	return s.redirectToShow(w, r, peoplePage(r, of), shown{Link: s.publicAddress(path + string(secret))})
}

// changeUser handles the buttons of the list of users, and returns to that list.
func (s *Server) changeUser(w http.ResponseWriter, r *http.Request) error {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	user, err := s.Accounts.User(r.Context(), id)
	if err != nil {
		return err
	}
	var of pg.ID
	if r.PostFormValue("from") == fromMerchant {
		of = user.MerchantID
	}
	var notice string // filled in with the user's name
	switch r.PostFormValue("do") {
	case "lock":
		err, notice = s.Accounts.LockUser(r.Context(), s.actor(r), id), "user-locked"
	case "unlock":
		err, notice = s.Accounts.UnlockUser(r.Context(), s.actor(r), id), "user-unlocked"
	case "role":
		role := audit.Role(r.PostFormValue("role"))
		err, notice = s.Accounts.SetRole(r.Context(), s.actor(r), id, role), "role-"+string(role)
	case "end-sessions":
		var keep []byte // the admin's own session is kept
		notice = "person-signed-out"
		if v := visitorOf(r); v.user.ID == id {
			keep, notice = v.session.Hash, "sessions-ended"
		}
		err = s.Accounts.EndSessions(r.Context(), s.actor(r), id, keep)
	case "reset-second-factor":
		err, notice = s.Accounts.ResetFactor(r.Context(), s.actor(r), id, s.mailJobs()), "second-factor-reset"
		if errors.Is(err, account.ErrNoFactor) { // reset meanwhile
			err = nil
		}
	case "invite":
		return s.inviteAgain(w, r, user, of)
	default:
		return errMalformed
	}
	if errors.Is(err, account.ErrLastAdmin) || errors.Is(err, account.ErrInvalidRole) {
		wrong := views.FieldError{Code: "last-admin"}
		if errors.Is(err, account.ErrInvalidRole) {
			wrong = views.FieldError{Field: "role", Code: "not-offered"}
		}
		return s.renderPeople(w, r, of, http.StatusConflict, views.InviteForm{Role: audit.RoleMerchant, Errors: views.Errors{wrong}})
	}
	if err != nil {
		return err
	}
	return s.redirectWithNotice(w, r, peoplePage(r, of), notice, "Name", cmp.Or(user.Name, user.Email))
}

// inviteAgain sends a user a new link: of an invitation, or for a new password if there is one already.
func (s *Server) inviteAgain(w http.ResponseWriter, r *http.Request, user account.User, of pg.ID) error {
	if !user.LockedAt.IsZero() || user.SSO {
		return errMalformed
	}
	kind, event, notice := notify.MailPassword, status.UserPasswordLink, "password-link"
	if user.Invited {
		kind, event, notice = notify.MailInvitation, status.UserInvited, "invited"
	}
	sent := audit.Event{Kind: event, MerchantID: user.MerchantID, Note: user.Email}
	by := s.actor(r)
	sent.Actor.Role, sent.Actor.ID, sent.Actor.Address = by.Role, by.ID, by.Address
	if err := s.DB.Audit.Record(r.Context(), sent); err != nil {
		return err
	}
	if s.Jobs.SendsMail() {
		if err := s.Jobs.SendMail(r.Context(), notify.Mail{Kind: kind, User: user.ID, By: by.ID}); err != nil {
			return err
		}
		return s.redirectWithNotice(w, r, peoplePage(r, of), notice)
	}
	return s.showLink(w, r, user, of)
}

// fromMerchant is the value of the field "from" in forms about users on a merchant's page, to which they return.
const fromMerchant = "merchant"

// peoplePage returns the address of a merchant's page or, for the zero merchant, of the list of users that the form was on.
func peoplePage(r *http.Request, of pg.ID) string {
	if of == (pg.ID{}) {
		return "/admin/users" + listQuery(r.URL.Query())
	}
	return "/admin/merchants/" + of.String()
}

// listQuery returns the part of a query that says which users are listed.
func listQuery(query url.Values) string {
	if kept := chosen(query, "q", "role", "at"); len(kept) > 0 {
		return "?" + kept.Encode()
	}
	return ""
}

// renderPeople answers a form about users with the page it is on.
func (s *Server) renderPeople(w http.ResponseWriter, r *http.Request, of pg.ID, status int, form views.InviteForm) error {
	if of == (pg.ID{}) {
		return s.renderUsers(w, r, status, form)
	}
	return s.renderMerchant(w, r, of, status, form)
}

func (s *Server) renderUsers(w http.ResponseWriter, r *http.Request, status int, form views.InviteForm) error {
	query := r.URL.Query()
	search, role := query.Get("q"), audit.Role(query.Get("role"))
	page := views.AdminUsersPage{Page: s.viewPage(r), Query: search, Invite: form, List: listQuery(query)}
	page.Path = "/admin/users" + page.List // not that of a form, which takes no GET
	for _, one := range []audit.Role{"", audit.RoleMerchant, audit.RoleSupport, audit.RoleAdmin} {
		page.Roles = append(page.Roles, views.Option{Value: string(one), Selected: one == role})
	}
	users, err := s.Accounts.ListUsers(r.Context(), account.UserQuery{Role: role, Search: text.Name(search)}, query.Get("at"), peopleOnPage)
	if err != nil {
		return err
	}
	page.People, page.Pager = users.Rows, pager("/admin/users", chosen(query, "q", "role"), query.Get("at"), users.Prev, users.Next)
	s.render(w, r, status, views.AdminUsers(page))
	return nil
}
