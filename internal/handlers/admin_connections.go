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
	"patchbay/internal/text"
	"patchbay/views"
)

const listLength = 50

// adminConnections lists connections of all merchants, searched, filtered and sorted as the query says.
func (s *Server) adminConnections(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	f, zone := s.filterOf(r, query)
	details := s.listedDetails()
	if f.Query != "" {
		details = nil // any of them may be why a row was found
	}
	lines, err := s.DB.Connections(r.Context(), f, details, query.Get("at"), listLength)
	if err != nil {
		return err
	}
	if f.Query != "" && query.Get("at") == "" && !isPrefetch(r) {
		if err := s.recordLookup(r, status.ConnectionsSearched, f.Query); err != nil {
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
		BookURL:     "/admin/connections.xlsx?" + FilterValues(f).Encode(),
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
	page.BulkFields, page.Mails = hiddenFields(FilterValues(f)), s.Jobs.SendsMail()
	if lines.Flow != nil {
		page.Flow = lines.Flow
	}
	for _, line := range lines.Rows {
		page.Rows = append(page.Rows, s.viewConnectionRow(line, f.Providers))
	}
	if f.Query != "" && lines.Similar == nil {
		if err := s.markMatches(r, page.Rows, f.Query); err != nil {
			return err
		}
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

// markMatches has each row show why a search found it.
func (s *Server) markMatches(r *http.Request, rows []views.ConnectionRow, query string) error {
	find := text.NewFinder(query)
	var merchants []pg.ID
	for i := range rows {
		rows[i].Find, rows[i].Query = find, db.Reference(query)
		merchants = append(merchants, rows[i].MerchantID)
	}
	people, err := s.Accounts.UsersNamed(r.Context(), merchants, find.Words())
	if err != nil {
		return err
	}
	for i := range rows {
		for _, u := range people {
			if u.MerchantID == rows[i].MerchantID {
				rows[i].People = append(rows[i].People, u)
			}
		}
	}
	return nil
}

// exportConnections writes every connection that the filter shows.
func (s *Server) exportConnections(file exportFile) page {
	return func(w http.ResponseWriter, r *http.Request) error {
		f, _ := s.filterOf(r, r.URL.Query())
		if isPrefetch(r) {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		if err := s.recordLookup(r, status.ConnectionsExported, FilterValues(f).Encode()); err != nil {
			return err
		}
		out := export[connectionLine]{server: s, w: w, r: r, file: file, name: "connections", layout: time.RFC3339, columns: s.connectionColumns()}
		return out.write(func(row func(connectionLine) error) error {
			names, details := s.exportedDetails()
			return s.DB.EachConnection(r.Context(), f, append(names, details...), func(c db.ConnectionRow) error {
				return row(connectionLine{c, status.Of(c.Row(), f.Providers[c.Provider])})
			})
		})
	}
}

// connectionLine is a row of an export of connections.
type connectionLine struct {
	db.ConnectionRow
	status status.Status
}

func (s *Server) connectionColumns() []exportColumn[connectionLine] {
	names, details := s.exportedDetails()
	all := []exportColumn[connectionLine]{
		{"merchant", wide, func(l connectionLine) any { return l.MerchantName }},
		{"merchant_external_id", narrow, func(l connectionLine) any { return l.ExternalID }},
		{"provider", narrow, func(l connectionLine) any { return l.Provider }},
		{"environment", narrow, func(l connectionLine) any { return l.Environment }},
		{"nickname", wide, func(l connectionLine) any { return l.Nickname }},
		{"account_name", wide, func(l connectionLine) any { return l.Account.Name }},
	}
	for _, key := range names {
		all = append(all, exportColumn[connectionLine]{key, wide, func(l connectionLine) any { return l.Account.Detail(key) }})
	}
	all = append(all, exportColumn[connectionLine]{"account_id", idWide, func(l connectionLine) any { return l.Account.ID }})
	for _, key := range details {
		all = append(all, exportColumn[connectionLine]{key, wide, func(l connectionLine) any { return l.Account.Detail(key) }})
	}
	return append(all, []exportColumn[connectionLine]{
		{"health", narrow, func(l connectionLine) any { return string(l.status.Health) }},
		{"who_must_act", narrow, func(l connectionLine) any { return string(l.status.Party) }},
		{"problem", narrow, func(l connectionLine) any { return string(l.status.Problem) }},
		{"since", timeWide, func(l connectionLine) any { return l.status.Since }},
		{"connected_at", timeWide, func(l connectionLine) any { return l.ConnectedAt }},
		{"disconnected_at", timeWide, func(l connectionLine) any { return l.DisconnectedAt }},
		{"refreshed_at", timeWide, func(l connectionLine) any { return l.RefreshedAt }},
		{"used_at", timeWide, func(l connectionLine) any { return l.UsedAt }},
		{"reconnect_by", timeWide, func(l connectionLine) any { return l.status.ReconnectBy }},
		{"id", idWide, func(l connectionLine) any { return l.ID.String() }},
		{"merchant_id", idWide, func(l connectionLine) any { return l.MerchantID.String() }},
	}...)
}

// listedDetails returns the keys of the details that lists show of an account.
func (s *Server) listedDetails() []string {
	keys := []string{}
	for _, p := range s.Providers {
		keys = append(keys, p.AccountKeys.OtherName, p.AccountKeys.Identifier)
	}
	return keys
}

// exportedDetails returns the details of accounts for which providers declare a column of their own.
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

// recordLookup adds the event of a look-up by staff.
func (s *Server) recordLookup(r *http.Request, kind status.Kind, what string) error {
	by := s.actor(r)
	return s.DB.Audit.Record(r.Context(), audit.Event{Kind: kind, Actor: by, Note: what})
}

func (s *Server) viewConnectionRow(line db.ConnectionRow, providers status.Providers) views.ConnectionRow {
	return views.ConnectionRow{
		ConnectionRow: line, Provider: s.viewProviderOf(line.Provider, line.Environment), Account: s.accountOf(line.Connection),
		Status: status.Of(line.Row(), providers[line.Provider]),
	}
}

func providerTitle(provider connectors.Provider) string {
	if provider.Title == "" {
		return provider.Name
	}
	return provider.Title
}
