package handlers

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"time"

	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/views"
)

// gatherHere is how many connections of a dry run are noted while its asker waits; the rest is a job's work.
const gatherHere = 5000

// beginBulk counts what a filter shows: a dry run, which sends nothing.
func (s *Server) beginBulk(w http.ResponseWriter, r *http.Request) error {
	f := s.filterOf(r.PostForm)
	id, err := s.DB.AddBulk(r.Context(), s.by(r), f.Values().Encode())
	if err != nil {
		return err
	}
	complete, err := s.DB.GatherBulk(r.Context(), id, f, gatherHere)
	if err != nil {
		return err
	}
	if !complete {
		if err := s.Jobs.CarryOn(r.Context(), id); err != nil {
			return err
		}
	}
	return see(w, r, "/admin/bulk/"+id.String())
}

// bulkPage shows a dry run's counts, or how far many refreshes are and how they ended.
func (s *Server) bulkPage(w http.ResponseWriter, r *http.Request) error {
	id, err := db.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	b, err := s.DB.Bulk(r.Context(), id)
	if err != nil {
		return err
	}
	page := views.BulkPage{
		Page: s.viewPage(r), ID: b.ID.String(), State: b.State, By: b.ByName, Created: b.CreatedAt, Ended: b.EndedAt, Total: b.Total, Done: b.Done,
		ListURL: "/admin/connections?" + b.Filter,
	}
	if values, err := url.ParseQuery(b.Filter); err == nil {
		for _, name := range []string{"q", "provider", "health", "who", "problem", "environment", "merchant", "used", "since", "lapsing"} {
			if value := values.Get(name); value != "" {
				page.Filter = append(page.Filter, views.Detail{Key: name, Value: value})
			}
		}
	}
	for _, class := range []string{"ok", "later", "trouble", "refused", "ours", "lost", "busy", "skipped"} {
		if n := b.Outcomes[class]; n > 0 {
			page.Outcomes = append(page.Outcomes, views.BulkOutcome{
				Class: class, Count: n, URL: "/admin/connections?" + db.Filter{Bulk: b.ID, Outcome: class}.Values().Encode(),
			})
		}
	}
	for _, p := range b.Providers {
		page.ByProvider = append(page.ByProvider, views.BulkProvider{
			Provider: s.viewProviderOf(p.Provider, "").Title, Count: p.Total, PerMinute: jobs.BulkPace,
			Paused: slices.ContainsFunc(s.troubledList(), func(one db.ProviderState) bool { return one.Name == p.Provider }),
		})
		page.Left = max(page.Left, time.Duration(p.Waiting)*time.Minute/jobs.BulkPace)
	}
	s.render(w, r, http.StatusOK, views.Bulk(page))
	return nil
}

// changeBulk starts a dry run for real, or stops what runs. Asking twice does no harm.
func (s *Server) changeBulk(w http.ResponseWriter, r *http.Request) error {
	id, err := db.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	if _, err := s.DB.Bulk(r.Context(), id); err != nil {
		return err
	}
	switch r.PostFormValue("do") {
	case "start":
		err = s.DB.StartBulk(r.Context(), s.by(r), id, s.Jobs.Enqueue)
	case "stop":
		err = s.DB.StopBulk(r.Context(), s.by(r), id)
	default:
		err = errMalformed
	}
	if err != nil && !errors.Is(err, db.ErrState) {
		return err
	}
	return see(w, r, "/admin/bulk/"+id.String())
}
