package handlers

import (
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/views"
)

// adminEvents lists the events that a filter shows.
func (s *Server) adminEvents(w http.ResponseWriter, r *http.Request) error {
	query, zone := zoned(r, r.URL.Query())
	f, values, err := s.eventFilter(r, query)
	if err != nil {
		return err
	}
	f.NoViews = values.Get("looks") != looksShown
	lines, err := s.DB.Audit.List(r.Context(), f, query.Get("at"), listLength)
	if err != nil {
		return err
	}
	kinds, err := s.DB.Audit.Kinds(r.Context())
	if err != nil {
		return err
	}
	keep, err := s.DB.Audit.Retention(r.Context())
	if err != nil {
		return err
	}
	page := views.EventsPage{
		Page: s.viewPage(r), Kinds: options(f.Kind, append([]status.Kind{"", audit.Refreshes}, kinds...)...), Outcomes: options(f.Outcome, append([]status.Outcome{""}, status.RefreshOutcomes()...)...),
		Providers: s.providerOptions(f.Provider), Actor: values.Get("actor"), Merchant: values.Get("merchant"), Connection: values.Get("connection"),
		Hours:  !wholeDay(f.From) || !wholeDay(f.To),
		Length: listLength, Zone: zone.String(), Days: eventDays(values, s.DB.Now().In(zone)),
		Pager: pager("/admin/events", values, query.Get("at"), lines.Prev, lines.Next), CSVURL: "/admin/events.csv?" + values.Encode(), BookURL: "/admin/events.xlsx?" + values.Encode(),
		LookupsURL: "/admin/events?" + withLooks(values, looksShown).Encode(), Lookups: !f.NoViews,
		Months: keep, MaySet: visitorOf(r).role() == admin,
	}
	if f.NoViews {
		whole := withLooks(values, looksHidden).Encode() // the downloads have what the page has
		page.CSVURL, page.BookURL = "/admin/events.csv?"+whole, "/admin/events.xlsx?"+whole
	} else {
		page.LookupsURL = "/admin/events?" + withLooks(values, "").Encode()
	}
	if page.MaySet {
		page.KeptSince = s.DB.Audit.RetentionCutoff(keep)
		if page.Oldest, err = s.DB.Audit.Oldest(r.Context()); err != nil {
			return err
		}
	}
	if layout := fieldLayout(page.Hours); !f.From.IsZero() {
		page.From = f.From.Format(layout)
	}
	switch {
	case f.To.IsZero():
	case page.Hours:
		page.To = f.To.Format(fieldLayout(true))
	default:
		page.To = f.To.AddDate(0, 0, -1).Format(time.DateOnly) // the last day that is shown
	}
	if showsFailures(f) { // after an outage its refreshes can be tried again
		page.BulkFields = hiddenFields(eventValues(f))
	}
	for _, line := range lines.Rows {
		page.Rows = append(page.Rows, s.viewEventLine(r, line))
	}
	s.render(w, r, http.StatusOK, views.Events(page))
	return nil
}

// What looks is in the address of a list of events: the page shows look-ups if asked to, a download leaves them out if asked to.
const (
	looksShown  = "shown"
	looksHidden = "hidden"
)

// withLooks returns the values of a list with another value of looks, or without it.
func withLooks(values url.Values, looks string) url.Values {
	there := maps.Clone(values)
	there.Del("looks")
	if looks != "" {
		there.Set("looks", looks)
	}
	return there
}

// exportEvents writes every event that the filter shows.
func (s *Server) exportEvents(file exportFile) page {
	return func(w http.ResponseWriter, r *http.Request) error {
		query, _ := zoned(r, r.URL.Query())
		f, values, err := s.eventFilter(r, query)
		if err != nil {
			return err
		}
		f.NoViews = values.Get("looks") == looksHidden
		if isPrefetch(r) {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		if err := s.recordLookup(r, status.EventsExported, values.Encode()); err != nil {
			return err
		}
		out := export[audit.Line]{server: s, w: w, r: r, file: file, name: "events", layout: time.RFC3339Nano, columns: eventColumns()}
		return out.write(func(row func(audit.Line) error) error { return s.DB.Audit.Each(r.Context(), f, row) })
	}
}

func eventColumns() []exportColumn[audit.Line] {
	return []exportColumn[audit.Line]{
		{"at", timeWide, func(e audit.Line) any { return e.At }},
		{"kind", wide, func(e audit.Line) any { return string(e.Kind) }},
		{"actor", narrow, func(e audit.Line) any { return string(e.Actor.Role) }},
		{"actor_id", idWide, func(e audit.Line) any { return idOrEmpty(e.Actor.ID) }},
		{"actor_name", wide, func(e audit.Line) any { return e.ActorName }},
		{"merchant_id", idWide, func(e audit.Line) any { return idOrEmpty(e.MerchantID) }},
		{"merchant", wide, func(e audit.Line) any { return e.MerchantName }},
		{"connection_id", idWide, func(e audit.Line) any { return idOrEmpty(e.ConnectionID) }},
		{"account", wide, func(e audit.Line) any { return e.AccountName }},
		{"flow", narrow, func(e audit.Line) any { return e.FlowReference }},
		{"provider", narrow, func(e audit.Line) any { return e.Provider }},
		{"class", narrow, func(e audit.Line) any { return string(e.Outcome) }},
		{"status", numberWide, func(e audit.Line) any { return e.Status }},
		{"code", narrow, func(e audit.Line) any { return e.Code }},
		{"milliseconds", numberWide, func(e audit.Line) any { return e.Millis }},
		{"reference", narrow, func(e audit.Line) any { return e.Reference }},
		{"address", narrow, func(e audit.Line) any { return e.Actor.Address }},
		{"request", wide, func(e audit.Line) any { return e.Actor.Request }},
		{"note", wide, func(e audit.Line) any { return e.Note }},
	}
}

// countedOldEvents is the highest number of events that is counted before they are deleted.
const countedOldEvents = 10_000

// setRetention sets for how many months events are kept. If that deletes any, it first shows which and asks for confirmation.
func (s *Server) setRetention(w http.ResponseWriter, r *http.Request) error {
	months, err := strconv.Atoi(formText(r, "months"))
	if err != nil || months != 0 && months < audit.MinMonths || months > 1200 {
		return errMalformed
	}
	since := s.DB.Audit.RetentionCutoff(months)
	if !since.IsZero() && r.PostFormValue("confirm") == "" {
		old, err := s.DB.Audit.CountBefore(r.Context(), since, countedOldEvents+1)
		if err != nil {
			return err
		}
		if old > 0 {
			return s.confirmRetention(w, r, months, since, old)
		}
	}
	if err := s.DB.Audit.SetRetention(r.Context(), s.actor(r), months); err != nil {
		return err
	}
	if since.IsZero() {
		return s.redirectWithNotice(w, r, "/admin/events", "kept-for-ever")
	}
	return s.redirectWithNotice(w, r, "/admin/events", "kept-since", "Months", strconv.Itoa(months), "Date", views.UTCDay(r.Context(), since))
}

// confirmRetention shows which events would be deleted for good. Nothing is set yet.
func (s *Server) confirmRetention(w http.ResponseWriter, r *http.Request, months int, since time.Time, old int) error {
	oldest, err := s.DB.Audit.Oldest(r.Context())
	if err != nil {
		return err
	}
	page := views.RetentionPage{
		Page: s.viewPage(r), Months: months, Since: since, Oldest: oldest, Old: min(old, countedOldEvents), More: old > countedOldEvents,
		CSVURL:  "/admin/events.csv?zone=UTC&to=" + since.AddDate(0, 0, -1).Format(time.DateOnly),
		BookURL: "/admin/events.xlsx?zone=UTC&to=" + since.AddDate(0, 0, -1).Format(time.DateOnly),
	}
	s.render(w, r, http.StatusOK, views.Retention(page))
	return nil
}

// eventFilter returns a filter of events and its values as in the address, which may name users, merchants and accounts instead of
// giving their ids.
func (s *Server) eventFilter(r *http.Request, query url.Values) (f audit.Filter, values url.Values, err error) {
	values, found := url.Values{}, url.Values{}
	for _, name := range []string{"kind", "class", "provider", "actor", "merchant", "connection", "from", "to", "looks"} {
		for _, value := range query[name] {
			if value != "" {
				values.Add(name, value)
				found.Add(name, value)
			}
		}
	}
	if values.Has("from") || values.Has("to") {
		values.Set("zone", query.Get("zone"))
		found.Set("zone", query.Get("zone"))
	}
	for name, find := range map[string]func(string) ([]pg.ID, error){
		"actor":    func(text string) ([]pg.ID, error) { return s.DB.Audit.ActorsNamed(r.Context(), text) },
		"merchant": func(text string) ([]pg.ID, error) { return s.DB.MerchantsNamed(r.Context(), text) },
		"connection": func(text string) (ids []pg.ID, err error) {
			lines, err := s.DB.Connections(r.Context(), search.Filter{Query: text}, []string{}, "", 40)
			if lines.Similar == nil { // similar words were not asked for
				for _, line := range lines.Rows {
					ids = append(ids, line.ID)
				}
			}
			return ids, err
		},
	} {
		text := strings.TrimSpace(values.Get(name))
		if _, notID := pg.ParseID(text); text == "" || notID == nil {
			continue
		}
		ids, err := find(text)
		if err != nil {
			return f, values, err
		}
		found.Del(name)
		for _, id := range ids {
			found.Add(name, id.String())
		}
		f.Nothing = f.Nothing || len(ids) == 0
	}
	nobody := f.Nothing
	f = parseEventFilter(found)
	f.Nothing = f.Nothing || nobody
	return f, values, nil
}

// eventDays returns links to the periods that are asked for most, with the rest of the filter as it is.
func eventDays(values url.Values, now time.Time) (days []views.Option) {
	for _, one := range []struct {
		code     string
		from, to int
	}{{"today", 0, 0}, {"yesterday", -1, -1}, {"week", -6, 0}} {
		there := maps.Clone(values)
		there.Set("zone", now.Location().String())
		there.Set("from", now.AddDate(0, 0, one.from).Format(time.DateOnly))
		there.Set("to", now.AddDate(0, 0, one.to).Format(time.DateOnly))
		days = append(days, views.Option{
			Value: "/admin/events?" + there.Encode(), Label: one.code, Selected: there.Get("from") == values.Get("from") && there.Get("to") == values.Get("to"),
		})
	}
	return days
}

func wholeDay(t time.Time) bool { return t.IsZero() || t.Format(time.TimeOnly) == "00:00:00" }

// fieldLayout is the layout of a datetime-local field.
func fieldLayout(hours bool) string {
	if hours {
		return "2006-01-02T15:04"
	}
	return time.DateOnly
}

func (s *Server) viewEventLine(r *http.Request, e audit.Line) views.Event {
	one := views.Event{Line: e}
	if e.Provider != "" {
		one.Title = s.viewProviderOf(e.Provider, "").Title
	}
	switch e.Kind {
	case status.ConnectionsExported, status.EventsExported, status.BulkCounted: // their note is the list's address
		if values, err := url.ParseQuery(e.Note[strings.Index(e.Note, "?")+1:]); err == nil {
			one.Filter = s.filterDetails(r, values)
		}
	}
	return one
}

func idOrEmpty(id pg.ID) string {
	if id == (pg.ID{}) {
		return ""
	}
	return id.String()
}

// parseEventFilter reads a filter of events from a list's query. A day is a whole day in the query's zone, UTC without one. It does
// not look up names of users, merchants and accounts.
func parseEventFilter(values url.Values) audit.Filter {
	var broken bool
	get := func(name string) string { return cleanFilterText(values.Get(name), &broken) }
	ids := func(name string) (all []pg.ID) {
		for _, value := range values[name] {
			if id := parseOptionalID(cleanFilterText(value, &broken), &broken); id != (pg.ID{}) {
				all = append(all, id)
			}
		}
		return all
	}
	f := audit.Filter{
		Kind: status.Kind(get("kind")), Outcome: status.Outcome(get("class")), Provider: get("provider"), Actors: ids("actor"), Merchants: ids("merchant"), Connections: ids("connection"),
	}
	zone := parseZone(get("zone"), &broken)
	f.From, _ = parseMoment(get("from"), zone, &broken)
	to, day := parseMoment(get("to"), zone, &broken)
	if f.To = to; day {
		f.To = to.AddDate(0, 0, 1)
	}
	f.Nothing = broken
	return f
}

// eventValues returns a filter of events as a query, with exact times, which mean the same in every zone.
func eventValues(f audit.Filter) url.Values {
	values := url.Values{}
	for name, value := range map[string]string{"kind": string(f.Kind), "class": string(f.Outcome), "provider": f.Provider} {
		if value != "" {
			values.Set(name, value)
		}
	}
	for name, ids := range map[string][]pg.ID{"actor": f.Actors, "merchant": f.Merchants, "connection": f.Connections} {
		for _, id := range ids {
			values.Add(name, id.String())
		}
	}
	for name, at := range map[string]time.Time{"from": f.From, "to": f.To} {
		if !at.IsZero() {
			values.Set(name, at.UTC().Format(time.RFC3339))
		}
	}
	return values
}

// parseMoment parses a day, an RFC 3339 time, or the value of a datetime-local field. A text without a zone is in the given one. It
// returns zero for "", and sets broken for any other text.
func parseMoment(text string, zone *time.Location, broken *bool) (at time.Time, day bool) {
	if text == "" {
		return time.Time{}, false
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339, "2006-01-02T15:04"} {
		if t, err := time.ParseInLocation(layout, text, zone); err == nil {
			return t.In(zone), layout == time.DateOnly
		}
	}
	*broken = true
	return time.Time{}, false
}

// cleanFilterText returns a value without the bytes that Postgres refuses in text. It sets broken if nothing else was in it.
func cleanFilterText(value string, broken *bool) string {
	text := strings.TrimSpace(cleanText(value))
	*broken = *broken || text == "" && strings.TrimSpace(value) != ""
	return text
}

// parseZone returns the time zone with an IANA name, UTC for "". It sets broken if there is none.
func parseZone(name string, broken *bool) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil || zone == time.Local {
		*broken = true
		return time.UTC
	}
	return zone
}

// parseOptionalID parses an id. It returns zero for "", and sets broken for any other text that is no id.
func parseOptionalID(text string, broken *bool) pg.ID {
	if text == "" {
		return pg.ID{}
	}
	id, err := pg.ParseID(text)
	if err != nil {
		*broken = true
		return pg.ID{}
	}
	return id
}
