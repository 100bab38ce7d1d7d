package handlers

import (
	"errors"
	"net/http"

	"patchbay/internal/account"
	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/text"
	"patchbay/views"
)

// adminMerchants lists merchants: all, or those found by name or the platform's own id.
func (s *Server) adminMerchants(w http.ResponseWriter, r *http.Request) error {
	return s.renderMerchants(w, r, http.StatusOK, views.MerchantForm{})
}

func (s *Server) addMerchant(w http.ResponseWriter, r *http.Request) error {
	form := views.MerchantForm{Name: formText(r, "name"), ExternalID: formText(r, "external_id"), Locale: r.PostFormValue("locale")}
	if !views.KnownLocale(form.Locale) {
		form.Locale = ""
	}
	if tooLong(r, "name") {
		form.Errors = append(form.Errors, views.FieldError{Field: "name", Code: "too-long"})
	}
	if tooLong(r, "external_id") {
		form.Errors = append(form.Errors, views.FieldError{Field: "external_id", Code: "too-long"})
	}
	if len(form.Errors) > 0 {
		return s.renderMerchants(w, r, http.StatusUnprocessableEntity, form)
	}
	m, err := s.DB.AddMerchant(r.Context(), s.actor(r), db.Merchant{Name: form.Name, ExternalID: form.ExternalID, Locale: form.Locale})
	switch {
	case errors.Is(err, db.ErrNoName):
		form.Errors = views.Errors{{Field: "name", Code: "missing"}}
	case errors.Is(err, db.ErrExternalIDTaken):
		form.Errors = views.Errors{{Field: "external_id", Code: "taken"}}
	case err != nil:
		return err
	default:
		return s.redirectWithNotice(w, r, "/admin/merchants/"+m.ID.String(), "merchant-added")
	}
	return s.renderMerchants(w, r, http.StatusUnprocessableEntity, form)
}

func (s *Server) renderMerchants(w http.ResponseWriter, r *http.Request, code int, form views.MerchantForm) error {
	query := r.URL.Query()
	merchants, err := s.DB.ListMerchants(r.Context(), text.Name(query.Get("q")), query.Get("at"), peopleOnPage)
	if err != nil {
		return err
	}
	page := views.AdminMerchantsPage{
		Page: s.viewPage(r), Query: query.Get("q"), Providers: s.statuses(r.Context()), MayAdd: visitorOf(r).role() == admin, Form: form,
		Merchants: merchants.Rows, Pager: pager("/admin/merchants", chosen(query, "q"), query.Get("at"), merchants.Prev, merchants.Next),
	}
	s.render(w, r, code, views.AdminMerchants(page))
	return nil
}

// adminMerchant shows one merchant with its users and its connections, or the receipt of one that was erased.
func (s *Server) adminMerchant(w http.ResponseWriter, r *http.Request) error {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	return s.renderMerchant(w, r, id, http.StatusOK, views.InviteForm{Link: visitorOf(r).shown.Link})
}

func (s *Server) renderMerchant(w http.ResponseWriter, r *http.Request, id pg.ID, code int, form views.InviteForm) error {
	m, err := s.DB.Merchant(r.Context(), id)
	if errors.Is(err, pg.ErrNotFound) {
		return s.erasedPage(w, r, id)
	}
	if err != nil {
		return err
	}
	form.Role, form.Merchant, form.MerchantFixed = audit.RoleMerchant, id.String(), true
	people, err := s.Accounts.ListUsers(r.Context(), account.UserQuery{Merchant: id}, "", 200)
	if err != nil {
		return err
	}
	providers := s.statuses(r.Context())
	connections, err := s.DB.Connections(r.Context(), search.Filter{Merchant: id, Sort: search.SortHealth, Providers: providers}, s.listedDetails(), "", listLength)
	if err != nil {
		return err
	}
	v := visitorOf(r)
	page := views.AdminMerchantPage{
		Page: s.viewPage(r), Merchant: m, People: people.Rows, MayInvite: v.role() == admin, Invite: form,
	}
	page.Back = s.back(w, r, "/admin/merchants")
	page.Path = "/admin/merchants/" + m.ID.String() // not that of a form, which takes no GET
	for _, line := range connections.Rows {
		page.Connections = append(page.Connections, s.viewConnectionRow(line, providers))
	}
	links, err := s.DB.ConnectLinks(r.Context(), id, "", linksOfMerchant)
	if err != nil {
		return err
	}
	for _, l := range links.Rows {
		page.Links = append(page.Links, s.viewLinkLine(l))
	}
	s.render(w, r, code, views.AdminMerchant(page))
	return nil
}
