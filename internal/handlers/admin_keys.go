package handlers

import (
	"errors"
	"net/http"
	"slices"

	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/views"
)

// adminKeys lists the API keys.
func (s *Server) adminKeys(w http.ResponseWriter, r *http.Request) error {
	return s.renderKeys(w, r, http.StatusOK, emptyKeyForm(), visitorOf(r).shown.Key)
}

// emptyKeyForm returns the form for a new key, with the narrowest scope chosen.
func emptyKeyForm() views.KeyForm { return views.KeyForm{Scopes: []string{db.ScopeConnections}} }

// addKey makes a key. The list shows it once.
func (s *Server) addKey(w http.ResponseWriter, r *http.Request) error {
	form := views.KeyForm{Name: formText(r, "name"), Merchant: formText(r, "merchant"), Scopes: r.PostForm["scope"]}
	key := db.APIKey{Name: form.Name, Scopes: slices.Compact(slices.Sorted(slices.Values(form.Scopes)))}
	if tooLong(r, "name") {
		form.Errors = append(form.Errors, views.FieldError{Field: "name", Code: "too-long"})
	}
	if form.Merchant != "" {
		m, code, err := s.merchantByText(r, form.Merchant)
		if err != nil {
			return err
		}
		if key.MerchantID = m.ID; code != "" {
			form.Errors = append(form.Errors, views.FieldError{Field: "merchant", Code: code})
		}
	}
	if len(form.Errors) > 0 {
		return s.renderKeys(w, r, http.StatusUnprocessableEntity, form, nil)
	}
	key, secret, err := s.DB.AddAPIKey(r.Context(), s.actor(r), key)
	switch {
	case errors.Is(err, db.ErrNoName):
		form.Errors = views.Errors{{Field: "name", Code: "missing"}}
	case errors.Is(err, db.ErrKeyNameTaken):
		form.Errors = views.Errors{{Field: "name", Code: "key-taken"}}
	case errors.Is(err, db.ErrNoScopes):
		form.Errors = views.Errors{{Field: "scope", Code: "missing"}}
	case err != nil:
		return err
	default:
		return s.redirectToShow(w, r, "/admin/keys", shown{Key: &views.MadeKey{Name: key.Name, Key: string(secret)}})
	}
	return s.renderKeys(w, r, http.StatusUnprocessableEntity, form, nil)
}

// revokeKey revokes a key, with effect at once.
func (s *Server) revokeKey(w http.ResponseWriter, r *http.Request) error {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	name, err := s.DB.RevokeAPIKey(r.Context(), s.actor(r), id)
	if err != nil {
		return err
	}
	return s.redirectWithNotice(w, r, "/admin/keys", "revoked", "Name", name)
}

func (s *Server) renderKeys(w http.ResponseWriter, r *http.Request, status int, form views.KeyForm, made *views.MadeKey) error {
	keys, err := s.DB.APIKeys(r.Context())
	if err != nil {
		return err
	}
	page := views.KeysPage{Page: s.viewPage(r), Form: form, Made: made, Scopes: db.Scopes(), MayChange: visitorOf(r).role() == admin}
	for _, key := range keys {
		row := views.KeyRow{APIKey: key}
		if key.MerchantID != (pg.ID{}) {
			m, err := s.DB.Merchant(r.Context(), key.MerchantID)
			if err != nil {
				return err
			}
			row.Merchant = m.Name
		}
		if row.Days, err = s.DB.TokenReadsByDay(r.Context(), key.ID, 7); err != nil {
			return err
		}
		slices.Reverse(row.Days)
		page.Rows = append(page.Rows, row)
	}
	s.render(w, r, status, views.Keys(page))
	return nil
}
