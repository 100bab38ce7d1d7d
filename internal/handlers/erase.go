package handlers

import (
	"context"
	"errors"
	"net/http"

	"patchbay/internal/audit"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/resource"
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
