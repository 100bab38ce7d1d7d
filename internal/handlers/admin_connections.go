package handlers

import (
	"net/http"
	"net/url"
	"slices"
	"time"

	"patchbay/internal/audit"
	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/pg"
	"patchbay/internal/search"
	"patchbay/internal/status"
	"patchbay/views"
)

const listLength = 50

// adminConnections lists connections of all merchants: searched, filtered and sorted by what stands in the address.
func (s *Server) adminConnections(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	f, zone := s.filterOf(r, query)
	lines, err := s.DB.Connections(r.Context(), f, query.Get("at"), listLength)
	if err != nil {
		return err
	}
	if f.Query != "" && query.Get("at") == "" && !isPrefetch(r) {
		if err := s.noteLookup(r, status.ConnectionsSearched, f.Query); err != nil {
			return err
		}
	}
	page := views.AdminConnectionsPage{
		Page: s.viewPage(r), Query: f.Query, Sort: f.Sort, Shown: len(lines.Rows), Length: listLength, About: lines.About, Similar: len(lines.Similar) > 0 && len(lines.Rows) > 0, Lapsing: f.Lapsing, Outcome: string(f.Outcome),
		Healths:     options(f.Health, append([]status.Health{""}, status.Healths()...)...),
		Whos:        options(f.Party, append([]status.Party{""}, status.Parties()...)...),
		Problems:    options(f.Problem, append([]status.Problem{""}, status.Problems()...)...),
		Environment: options(f.Environment, "", "production", "sandbox"),
		Used:        options(f.Used, "", search.UsedDay, search.UsedWeek, search.UsedMonth, search.UsedNever),
		Providers:   s.providerOptions(f.Provider),
		Zone:        zone.String(),
		CSVURL:      "/admin/connections.csv?" + FilterValues(f).Encode(),
	}
	if !f.Since.IsZero() {
		page.Since = f.Since.Format(time.DateOnly)
	}
	if f.Merchant != (pg.ID{}) {
		page.Merchant = f.Merchant.String()
		if m, err := s.DB.Merchant(r.Context(), f.Merchant); err == nil {
			page.MerchantName = m.Name
		}
	}
	if f.Bulk != (pg.ID{}) {
		page.Bulk = f.Bulk.String()
	}
	page.BulkFields = fields(FilterValues(f))
	if lines.Flow != nil {
		page.Flow = lines.Flow
	}
	for _, line := range lines.Rows {
		page.Rows = append(page.Rows, s.viewConnectionRow(line, f.Providers))
	}
	if !f.Lapsing { // those have their own order
		page.ByAccount = sortColumn(f, search.SortAccount, false)
		page.ByMerchant = sortColumn(f, search.SortMerchant, false)
		page.ByHealth = sortColumn(f, search.SortHealth, false)
		page.ByConnected = sortColumn(f, search.SortConnected, true)
		page.ByUsed = sortColumn(f, search.SortUsed, true)
	}
	page.Pager = pager("/admin/connections", FilterValues(f), query.Get("at"), lines.Prev, lines.Next)
	s.render(w, r, http.StatusOK, views.AdminConnections(page))
	return nil
}

// exportConnections writes all that the filter shows as CSV, as it is read: no list is ever held whole.
func (s *Server) exportConnections(w http.ResponseWriter, r *http.Request) error {
	f, _ := s.filterOf(r, r.URL.Query())
	if isPrefetch(r) {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := s.noteLookup(r, status.ConnectionsExported, FilterValues(f).Encode()); err != nil {
		return err
	}
	out := newExport(w, "connections", s.DB.Now())
	names, details := s.exportedDetails()
	err := out.row(slices.Concat([]string{"merchant", "merchant_external_id", "provider", "environment", "account_name"}, names, []string{"account_id"}, details, []string{
		"health", "who_must_act", "problem", "since", "connected_at", "disconnected_at", "refreshed_at", "used_at", "reconnect_by", "id", "merchant_id",
	})...)
	if err == nil {
		err = s.DB.EachConnection(r.Context(), f, func(l db.ConnectionRow) error {
			how := status.Of(l.Row(), f.Providers[l.Provider])
			cells := []string{l.MerchantName, l.ExternalID, l.Provider, l.Environment, l.Account.Name}
			for _, key := range names {
				cells = append(cells, l.Account.Detail(key))
			}
			cells = append(cells, l.Account.ID)
			for _, key := range details {
				cells = append(cells, l.Account.Detail(key))
			}
			return out.row(append(cells, string(how.Health), string(how.Party), string(how.Problem), exportTime(how.Since),
				exportTime(l.ConnectedAt), exportTime(l.DisconnectedAt), exportTime(l.RefreshedAt), exportTime(l.UsedAt), exportTime(how.ReconnectBy), l.ID.String(), l.MerchantID.String())...)
		})
	}
	return s.endExport(r, out, err)
}

// exportedDetails are the details of accounts that have a column of their own, as the providers declare them.
func (s *Server) exportedDetails() (names, details []string) {
	for _, p := range s.Providers {
		if key := p.AccountKeys.OtherName; key != "" && !slices.Contains(names, key) {
			names = append(names, key)
		}
		for _, key := range p.AccountKeys.Export {
			if !slices.Contains(details, key) {
				details = append(details, key)
			}
		}
	}
	return names, details
}

// filterOf reads a list's filter from its address, or from a form that repeats it, and the zone of its days.
func (s *Server) filterOf(r *http.Request, values url.Values) (search.Filter, *time.Location) {
	values, zone := zoned(r, values)
	f := parseFilter(values)
	f.Providers = s.statuses(r.Context())
	return f, zone
}

// noteLookup writes down that staff looked something up: their own look-ups are events too.
func (s *Server) noteLookup(r *http.Request, kind status.Kind, what string) error {
	by := s.actor(r)
	return s.DB.Audit.Record(r.Context(), audit.Event{Kind: kind, Actor: by, Note: what})
}

func (s *Server) viewConnectionRow(line db.ConnectionRow, providers status.Providers) views.ConnectionRow {
	return views.ConnectionRow{
		ConnectionRow: line, Provider: s.viewProviderOf(line.Provider, line.Environment), Account: s.viewAccount(line.Provider, line.Account, line.ID.String()),
		Status: status.Of(line.Row(), providers[line.Provider]),
	}
}

func title(provider connectors.Provider) string {
	if provider.Title == "" {
		return provider.Name
	}
	return provider.Title
}
