package handlers

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/resource"
	"patchbay/internal/text"
	"patchbay/views"
)

const apiEraseRoute = "DELETE /api/v1/merchants/{external_id}"

// apiErase erases a merchant and returns the receipt. Asked again, also after a lost answer, it returns it once more.
func (s *Server) apiErase(w http.ResponseWriter, r *http.Request) error {
	key, err := s.key(r, db.ScopeMerchants)
	if err != nil {
		return err
	}
	if key.MerchantID != (pg.ID{}) {
		return errForbidden
	}
	name := r.PathValue("external_id")
	var receipt db.Erasure
	m, err := s.DB.MerchantByExternalID(r.Context(), name)
	if err == nil {
		receipt, err = s.eraseMerchant(r, m.ID, s.byKey(r, key))
	}
	if errors.Is(err, pg.ErrNotFound) {
		receipt, err = s.DB.ErasureByExternalID(r.Context(), name)
	}
	if err != nil {
		return err
	}
	months, err := s.DB.Audit.Retention(r.Context())
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, resource.ErasureOf(receipt, name, months))
}

// eraseMerchant erases a merchant, and does what it can of the rest at once. It returns ErrNotFound if there is no such merchant.
func (s *Server) eraseMerchant(r *http.Request, id pg.ID, by audit.Actor) (db.Erasure, error) {
	if err := s.DB.EraseMerchant(r.Context(), by, id); err != nil {
		return db.Erasure{}, err
	}
	ctx := context.WithoutCancel(r.Context())
	if err := s.Jobs.FinishErasure(ctx, id); err != nil { // the job goes on
		s.Log.ErrorContext(ctx, "an erasure is not finished", "merchant", id, "err", err)
	}
	return s.DB.Erasure(ctx, id)
}

// erasePage says what erasing a merchant does, and asks for its name.
func (s *Server) erasePage(w http.ResponseWriter, r *http.Request) error {
	return s.askToErase(w, r, http.StatusOK, nil)
}

func (s *Server) askToErase(w http.ResponseWriter, r *http.Request, code int, errors views.Errors) error {
	m, err := s.merchantOfPath(r)
	if err != nil {
		return err
	}
	s.render(w, r, code, views.Erase(views.ErasePage{Page: s.viewPage(r), Merchant: m, Errors: errors}))
	return nil
}

func (s *Server) merchantOfPath(r *http.Request) (db.Merchant, error) {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return db.Merchant{}, err
	}
	return s.DB.Merchant(r.Context(), id)
}

// erase erases a merchant whose name or external id was typed. Its page is the receipt from then on.
func (s *Server) erase(w http.ResponseWriter, r *http.Request) error {
	m, err := s.merchantOfPath(r)
	if errors.Is(err, pg.ErrNotFound) { // a second click leads to the receipt, if there is one
		return redirect(w, r, "/admin/merchants/"+r.PathValue("id"))
	}
	if err != nil {
		return err
	}
	typed := formText(r, "confirm")
	if typed == "" || !strings.EqualFold(typed, text.Name(m.Name)) && typed != m.ExternalID {
		return s.askToErase(w, r, http.StatusUnprocessableEntity, views.Errors{{Field: "confirm", Code: "other"}})
	}
	if _, err := s.eraseMerchant(r, m.ID, s.actor(r)); err != nil && !errors.Is(err, pg.ErrNotFound) {
		return err
	}
	return redirect(w, r, "/admin/merchants/"+m.ID.String())
}

// erasedPage shows the receipt of a merchant that was erased.
func (s *Server) erasedPage(w http.ResponseWriter, r *http.Request, id pg.ID) error {
	receipt, err := s.DB.Erasure(r.Context(), id)
	if err != nil {
		return err
	}
	months, err := s.DB.Audit.Retention(r.Context())
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.Erased(views.ErasedPage{Page: s.viewPage(r), Erasure: receipt, Months: months}))
	return nil
}
