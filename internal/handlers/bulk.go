package handlers

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/bulk"
	"patchbay/internal/connectors"
	"patchbay/internal/jobs"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/views"
)

// dryRunLimit is how many connections of a dry run are collected within the request; a job collects the rest.
const dryRunLimit = 5000

// beginBulk makes a dry run of the connections that a list shows: of refreshing them, or of asking their merchants to reconnect
// (kind=ask). It sends nothing.
func (s *Server) beginBulk(w http.ResponseWriter, r *http.Request) error {
	f, _ := s.filterOf(r, r.PostForm)
	filter, unread := bulk.Filter{Connections: &f}, f.Nothing
	if r.PostFormValue("list") == "events" {
		values, _ := zoned(r, r.PostForm)
		f := parseEventFilter(values)
		filter, unread = bulk.Filter{Events: &f}, f.Nothing || !showsFailures(f)
	}
	if unread { // a filter that cannot be read must not mean all connections
		return errMalformed
	}
	kind := bulk.Refresh
	if r.PostFormValue("kind") == string(bulk.Ask) {
		if kind = bulk.Ask; filter.Connections == nil || !s.Jobs.SendsMail() {
			return errMalformed
		}
	}
	list, values := bulkList(filter)
	id, err := bulk.Add(r.Context(), s.DB, s.actor(r), kind, filter, list+"?"+values.Encode())
	if err != nil {
		return err
	}
	complete, err := bulk.Gather(r.Context(), s.DB, id, s.statuses(r.Context()), dryRunLimit)
	if err != nil {
		return err
	}
	if !complete {
		if err := s.Jobs.ResumeBulk(r.Context(), id, kind); err != nil {
			return err
		}
	}
	return redirect(w, r, "/admin/bulk/"+id.String())
}

// bulkPage shows the counts of a dry run, or the progress and outcomes of a bulk.
func (s *Server) bulkPage(w http.ResponseWriter, r *http.Request) error {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	b, err := bulk.Read(r.Context(), s.DB, id)
	if err != nil {
		return err
	}
	list, values := bulkList(b.Filter)
	page := views.BulkPage{Page: s.viewPage(r), Bulk: b, ListURL: "/admin/" + list + "?" + values.Encode(), Filter: s.filterDetails(r, values)}
	for _, outcome := range status.BulkOutcomes() {
		if n := b.Outcomes[outcome]; n > 0 {
			page.Outcomes = append(page.Outcomes, views.BulkOutcome{
				Outcome: outcome, Count: n, URL: "/admin/connections?" + FilterValues(search.Filter{Bulk: b.ID, Outcome: outcome}).Encode(),
			})
		}
	}
	perMinute := jobs.BulkPace
	if b.Kind == bulk.Ask {
		perMinute = jobs.AskPace
	}
	environments := connectors.Environments(s.Providers)
	for _, p := range b.Providers {
		state, err := s.Refresh.ProviderState(r.Context(), p.Provider, environments[p.Provider])
		if err != nil {
			return err
		}
		one := views.BulkProvider{
			ProviderCount: p, Title: s.viewProviderOf(p.Provider, "").Title, PerMinute: perMinute,
			Paused: !state.IncidentSince.IsZero(), Declared: state.Reason == status.ReasonDeclared,
		}
		if b.Kind == bulk.Refresh && state.PausedUntil.After(s.DB.Now()) {
			one.Until = state.PausedUntil
		}
		page.Providers = append(page.Providers, one)
		if !one.Paused { // the end of an incident is not known
			page.Left = max(page.Left, time.Duration(p.Waiting)*time.Minute/time.Duration(perMinute)+max(0, one.Until.Sub(s.DB.Now())))
		}
	}
	s.render(w, r, http.StatusOK, views.Bulk(page))
	return nil
}

// bulkList returns the path and query of the list that a bulk is made from.
func bulkList(f bulk.Filter) (list string, values url.Values) {
	if f.Events != nil {
		return "events", eventValues(*f.Events)
	}
	return "connections", FilterValues(*f.Connections)
}

// showsFailures reports whether a filter shows refreshes that failed.
func showsFailures(f audit.Filter) bool { return f.Outcome != "" && f.Outcome != status.OK }

// filterDetails returns a list's filter as a page shows it, with names instead of ids.
func (s *Server) filterDetails(r *http.Request, values url.Values) (shown []views.Filter) {
	var ids []pg.ID
	for _, name := range []string{"merchant", "actor", "connection"} {
		for _, value := range values[name] {
			if id, err := pg.ParseID(value); err == nil {
				ids = append(ids, id)
			}
		}
	}
	names, err := s.DB.Audit.Names(r.Context(), ids)
	if err != nil {
		s.Log.WarnContext(r.Context(), "names of a filter", "err", err) // ids are shown instead
	}
	for _, key := range []string{
		"q", "kind", "class", "provider", "health", "who", "problem", "environment", "merchant", "connection", "used", "since", "lapsing", "actor", "from", "to", "zone",
	} {
		for _, value := range values[key] {
			if key == "provider" {
				value = s.viewProviderOf(value, "").Title
			}
			if id, err := pg.ParseID(value); err == nil && names[id] != "" {
				value = names[id]
			}
			shown = append(shown, views.Filter{Key: key, Value: value})
		}
	}
	return shown
}

// hiddenFields returns a filter's values as the hidden fields of a form.
func hiddenFields(values url.Values) (all []views.Filter) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, value := range values[name] {
			all = append(all, views.Filter{Key: name, Value: value})
		}
	}
	return all
}

// changeBulk starts a dry run's work, or stops a running bulk. A second request changes nothing.
func (s *Server) changeBulk(w http.ResponseWriter, r *http.Request) error {
	id, err := pg.ParseID(r.PathValue("id"))
	if err != nil {
		return err
	}
	b, err := bulk.Read(r.Context(), s.DB, id)
	if err != nil {
		return err
	}
	switch r.PostFormValue("do") {
	case "start":
		err = bulk.Start(r.Context(), s.DB, s.actor(r), b, s.Jobs)
	case "stop":
		err = bulk.Stop(r.Context(), s.DB, s.actor(r), b)
	default:
		err = errMalformed
	}
	if err != nil && !errors.Is(err, bulk.ErrState) {
		return err
	}
	return redirect(w, r, "/admin/bulk/"+id.String())
}
