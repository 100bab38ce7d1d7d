package handlers

import (
	"net/http"
	"time"

	"patchbay/internal/pg"
	"patchbay/internal/text"
	"patchbay/views"
)

// changeNotes writes or deletes a note about a connection.
func (s *Server) changeNotes(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	if err := s.rateLimit(r, "note "+visitorOf(r).user.ID.String(), pg.Limit{Burst: 20, Every: 3 * time.Second}); err != nil {
		return err
	}
	here := "/connections/" + c.ID.String() + "#notes"
	if gone := r.PostFormValue("delete"); gone != "" {
		note, err := pg.ParseID(gone)
		if err != nil {
			return err
		}
		if err := s.DB.DeleteNote(r.Context(), s.actor(r), c.ID, note); err != nil {
			return err
		}
		return s.redirectWithNotice(w, r, here, "note-deleted")
	}
	note, code := text.Clean(r.PostFormValue("note")), ""
	switch {
	case text.Name(note) == "":
		code = "missing"
	case text.Length(note) > views.MaxNote:
		code = "too-long"
	default:
		if err := s.DB.AddNote(r.Context(), s.actor(r), c.ID, note); err != nil {
			return err
		}
		return s.redirectWithNotice(w, r, here, "noted")
	}
	page, err := s.viewConnection(r, c, visitorOf(r).role())
	if err != nil {
		return err
	}
	page.Back = s.back(w, r, "/admin/connections")
	page.Staff.Note, page.Errors = note, views.Errors{{Field: "note", Code: code}}
	s.render(w, r, http.StatusUnprocessableEntity, views.Connection(page))
	return nil
}

// viewNotes returns the notes about a connection, with the names of their authors.
func (s *Server) viewNotes(r *http.Request, connection pg.ID) ([]views.Note, error) {
	notes, err := s.DB.Notes(r.Context(), connection)
	if err != nil || len(notes) == 0 {
		return nil, err
	}
	authors := make([]pg.ID, len(notes))
	for i, n := range notes {
		authors[i] = n.Author
	}
	names, err := s.DB.Audit.Names(r.Context(), authors)
	if err != nil {
		return nil, err
	}
	shown := make([]views.Note, len(notes))
	for i, n := range notes {
		shown[i] = views.Note{Note: n, By: names[n.Author], MayDelete: visitorOf(r).role() == admin || n.Author == visitorOf(r).user.ID}
	}
	return shown, nil
}
