package handlers

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/db"
	"patchbay/views"
)

// adminEvents lists what everybody did, or what one filter leaves of it.
func (s *Server) adminEvents(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	f, values, none, err := s.eventFilter(r, query)
	if err != nil {
		return err
	}
	var lines db.EventLines
	if !none {
		if lines, err = s.DB.Events(r.Context(), f, query.Get("at"), listLength); err != nil {
			return err
		}
	}
	kinds, err := s.DB.EventKinds(r.Context())
	if err != nil {
		return err
	}
	keep, err := s.DB.Retention(r.Context(), 0)
	if err != nil {
		return err
	}
	page := views.EventsPage{
		Page: s.viewPage(r), Kinds: options(f.Kind, append([]string{"", db.EventsRefresh}, kinds...)...), Classes: options(f.Class, "", "ok", "later", "trouble", "refused", "ours", "lost"),
		Providers: s.providerOptions(f.Provider), Actor: values.Get("actor"), Merchant: values.Get("merchant"), Connection: values.Get("connection"),
		From:  dateOf(f.From),
		Pager: pagerOf("/admin/events", values, query.Get("at"), lines.Prev, lines.Next), CSVURL: "/admin/events.csv?" + values.Encode(),
		Months: keep, MaySet: visitorOf(r).who() == admin,
	}
	if !f.To.IsZero() {
		page.To = dateOf(f.To.Add(-time.Second)) // the last day that is shown
	}
	if f.Class != "" && f.Class != "ok" { // the calls of an outage: what failed then can be tried again
		page.BulkFields = fields(f.Values())
	}
	for _, line := range lines.All {
		page.Rows = append(page.Rows, s.viewEventLine(r, line))
	}
	s.render(w, r, http.StatusOK, views.Events(page))
	return nil
}

// exportEvents writes all that the filter shows as CSV.
func (s *Server) exportEvents(w http.ResponseWriter, r *http.Request) error {
	f, values, none, err := s.eventFilter(r, r.URL.Query())
	if err != nil {
		return err
	}
	if ahead(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := s.noteLookup(r, "event.exported", values.Encode()); err != nil {
		return err
	}
	out := newExport(w, "events", s.DB.Now())
	err = out.row("at", "kind", "actor", "actor_id", "actor_name", "merchant_id", "merchant", "connection_id", "account", "flow", "provider", "class", "status", "code",
		"milliseconds", "reference", "address", "note")
	if err == nil && !none {
		err = s.DB.EachEvent(r.Context(), f, func(e db.EventLine) error {
			return out.row(e.At.Format(time.RFC3339Nano), e.Kind, e.Actor, idOrEmpty(e.ActorID), e.ActorName, idOrEmpty(e.MerchantID), e.MerchantName, idOrEmpty(e.ConnectionID),
				e.AccountName, e.FlowReference, e.Provider, e.Class, zeroEmpty(e.Status), e.Code, zeroEmpty(e.Millis), e.Reference, e.Address, e.Note)
		})
	}
	return s.endExport(r, out, err)
}

// setRetention says for how many months events are kept.
func (s *Server) setRetention(w http.ResponseWriter, r *http.Request) error {
	months, err := strconv.Atoi(text(r, "months"))
	if err != nil || months < 0 || months > 1200 {
		return errMalformed
	}
	if err := s.DB.SetRetention(r.Context(), s.by(r), months); err != nil {
		return err
	}
	return s.done(w, r, "/admin/events", "saved")
}

// eventFilter reads a filter of events, and its values as they stand in the address. none: it names somebody or
// something that does not exist, so there is nothing to show.
func (s *Server) eventFilter(r *http.Request, query url.Values) (f db.EventFilter, values url.Values, none bool, err error) {
	values, found := url.Values{}, url.Values{}
	for _, name := range []string{"kind", "class", "provider", "actor", "merchant", "connection", "from", "to"} {
		if value := clean(query.Get(name)); value != "" {
			values.Set(name, value)
			found.Set(name, value)
		}
	}
	if actor := values.Get("actor"); actor != "" && !isID(actor) {
		ids, err := s.DB.Actors(r.Context(), actor)
		if err != nil {
			return f, values, false, err
		}
		found.Del("actor")
		for _, id := range ids {
			found.Add("actor", id.String())
		}
		none = len(ids) == 0
	}
	if name := values.Get("merchant"); name != "" && !isID(name) {
		m, err := s.DB.MerchantByName(r.Context(), name)
		if err != nil {
			none = true
		}
		found.Set("merchant", m.ID.String())
	}
	if id := values.Get("connection"); id != "" && !isID(id) {
		none = true
	}
	return db.ParseEventFilter(found), values, none, nil
}

func isID(text string) bool {
	_, err := db.ParseID(text)
	return err == nil
}

// dateOf is a day as date fields hold it.
func dateOf(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.DateOnly)
}

func (s *Server) viewEventLine(r *http.Request, e db.EventLine) views.Event {
	one := views.Event{At: e.At, Actor: e.ActorName, Where: e.Address}
	one.Kind, one.Note = told(e.Event)
	if e.Provider != "" {
		one.Provider = s.viewProviderOf(e.Provider, "").Title
	}
	if e.Class != "" && e.Kind != "provider.checked" {
		one.Call = &views.Call{
			Name: strings.TrimPrefix(e.Kind, "call."), Class: e.Class, Status: e.Status, Code: e.Code, Reference: e.Reference,
			Took: time.Duration(e.Millis) * time.Millisecond,
		}
	}
	switch e.Kind {
	case "connection.exported", "event.exported", "bulk.counted": // their note is the list's address
		one.Note = ""
		if values, err := url.ParseQuery(e.Note); err == nil {
			one.Filter = s.filterDetails(r, values)
		}
	}
	switch {
	case strings.HasPrefix(e.Kind, "bulk."):
		one.Link, one.What = "/admin/bulk/"+e.Reference, e.Reference
	case e.ConnectionID != (db.ID{}) && e.AccountName != "":
		one.Link, one.What = "/connections/"+e.ConnectionID.String(), e.AccountName
	case e.FlowReference != "":
		one.Link, one.What = "/flows/"+e.FlowReference, e.FlowReference
	case e.MerchantName != "":
		one.Link, one.What = "/admin/merchants/"+e.MerchantID.String(), e.MerchantName
	}
	return one
}

func idOrEmpty(id db.ID) string {
	if id == (db.ID{}) {
		return ""
	}
	return id.String()
}

func zeroEmpty(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}
