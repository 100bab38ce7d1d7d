package handlers

import (
	"io"
	"net/http"

	"patchbay/internal/notify"
	"patchbay/internal/pg"
	"patchbay/views"
)

// outboxHTML serves the HTML of a mail of the outbox. It may load nothing and run nothing; its links open a page of their own.
func (s *Server) outboxHTML(w http.ResponseWriter, r *http.Request) error {
	if !s.Jobs.Outbox {
		return pg.ErrNotFound
	}
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return pg.ErrNotFound
	}
	mail, err := notify.ReadOutboxMail(r.Context(), s.DB.Keyring, id)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox allow-popups allow-popups-to-escape-sandbox")
	_, err = io.WriteString(w, s.Brand.InlineMail(mail.HTML))
	return err
}

// outbox shows the mails that the demo keeps instead of sending. Elsewhere there is no such page.
func (s *Server) outbox(w http.ResponseWriter, r *http.Request) error {
	if !s.Jobs.Outbox {
		return pg.ErrNotFound
	}
	mails, err := notify.OutboxMails(r.Context(), s.DB.Keyring, 50)
	if err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.Outbox(views.OutboxPage{Page: s.viewPage(r), Mails: mails}))
	return nil
}
