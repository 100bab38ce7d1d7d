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
	mails, err := s.DB.KeptMails(r.Context(), 50)
	if err != nil {
		return err
	}
	page := views.OutboxPage{Page: s.viewPage(r)}
	for _, m := range mails {
		page.Mails = append(page.Mails, views.OutboxMail{ID: m.ID.String(), At: m.At, To: m.Recipient, Subject: m.Subject, Text: m.Text})
	}
	s.render(w, r, http.StatusOK, views.Outbox(page))
	return nil
}
