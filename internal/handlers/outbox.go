package handlers

import (
	"net/http"

	"patchbay/internal/pg"
	"patchbay/views"
)

// outbox shows the mails that the demo keeps instead of sending. Elsewhere there is no such page.
func (s *Server) outbox(w http.ResponseWriter, r *http.Request) error {
	if !s.Jobs.Outbox {
		return pg.ErrNotFound
	}
	mails, err := s.DB.OutboxMails(r.Context(), 50)
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.Outbox(views.OutboxPage{Page: s.viewPage(r), Mails: mails}))
	return nil
}
