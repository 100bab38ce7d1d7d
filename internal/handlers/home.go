package handlers

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"

	"patchbay/internal/db"
	"patchbay/internal/status"
	"patchbay/internal/text"
	"patchbay/views"
)

// manyProviders is from how many providers on they are searched and shown by category.
const manyProviders = 8

// home shows what needs the merchant, what waits for a choice, what is connected, and what can be connected.
func (s *Server) home(w http.ResponseWriter, r *http.Request) error {
	v := visitorOf(r)
	if v.user.Staff() {
		return redirect(w, r, "/admin")
	}
	owned, err := s.DB.MerchantConnections(r.Context(), v.user.MerchantID, s.listedDetails())
	if err != nil {
		return err
	}
	page := views.ConnectionsPage{Page: s.viewPage(r), Query: text.Name(r.URL.Query().Get("q"))}
	for _, one := range s.viewOwned(r, owned) {
		if one.Needs() {
			page.Needed = append(page.Needed, one)
		} else {
			page.Connected = append(page.Connected, one)
		}
	}
	waiting, err := s.DB.WaitingFlows(r.Context(), v.user.MerchantID, v.user.ID)
	if err != nil {
		return err
	}
	for _, f := range waiting {
		page.Waiting = append(page.Waiting, views.WaitingFlow{
			Reference: f.Reference, Account: s.viewAccount(f.Provider, f.Account, ""), Until: f.ExpiresAt,
		})
	}
	offered := 0
	for _, provider := range s.Providers {
		if provider.Connector == nil {
			continue
		}
		offered++
		has := slices.ContainsFunc(owned, func(c db.Connection) bool {
			return provider.Is(c.Provider, c.Environment)
		})
		page.Offered = append(page.Offered, views.Offer{Provider: viewProvider(provider), Another: has})
	}
	page.Many = offered >= manyProviders
	if page.Many && page.Query != "" {
		ctx := s.words(r)
		page.Offered = slices.DeleteFunc(page.Offered, func(o views.Offer) bool { return !o.Matches(ctx, page.Query) })
	}
	if page.Ended, err = s.DB.HasDisconnected(r.Context(), v.user.MerchantID); err != nil {
		return err
	}
	s.render(w, r, http.StatusOK, views.Connections(page))
	return nil
}

// endedConnections lists a merchant's connections that were disconnected. The page of each is its receipt.
func (s *Server) endedConnections(w http.ResponseWriter, r *http.Request) error {
	v, query := visitorOf(r), r.URL.Query()
	ended, err := s.DB.DisconnectedConnections(r.Context(), v.user.MerchantID, s.listedDetails(), query.Get("at"), listLength)
	if err != nil {
		return err
	}
	page := views.EndedPage{Page: s.viewPage(r), Pager: pager("/ended", nil, query.Get("at"), ended.Prev, ended.Next)}
	for _, c := range ended.Rows {
		page.Ended = append(page.Ended, views.EndedConnection{OwnedConnection: s.viewOwnedConnection(c, nil), At: c.DisconnectedAt})
	}
	s.render(w, r, http.StatusOK, views.Ended(page))
	return nil
}

// viewOwned returns connections as their merchant reads them: what is wrong first.
func (s *Server) viewOwned(r *http.Request, owned []db.Connection) []views.OwnedConnection {
	providers := s.statuses(r.Context())
	out := make([]views.OwnedConnection, len(owned))
	for i, c := range owned {
		out[i] = s.viewOwnedConnection(c, providers)
	}
	slices.SortStableFunc(out, func(a, b views.OwnedConnection) int {
		return cmp.Or(
			cmp.Compare(a.Status.Health.Rank(), b.Status.Health.Rank()),
			strings.Compare(a.Provider.Title, b.Provider.Title),
		)
	})
	return out
}

func (s *Server) viewOwnedConnection(c db.Connection, providers status.Providers) views.OwnedConnection {
	current := status.Of(c.Row(), providers[c.Provider])
	return views.OwnedConnection{
		ID: c.ID.String(), Provider: s.viewProviderOf(c.Provider, c.Environment), Account: s.accountOf(c),
		Status: current, ReconnectBy: current.ReconnectReminder(s.DB.Now()),
	}
}

// statuses returns the providers' settings and open incidents, for status.Of. It is not to be changed.
func (s *Server) statuses(ctx context.Context) status.Providers {
	incidents := s.currentIncidents(ctx)
	if len(incidents) == 0 {
		return s.configured
	}
	providers := maps.Clone(s.configured)
	for _, one := range incidents {
		providers.SetIncident(one.Name, one.Environment, one.Reason)
	}
	return providers
}

// statusOf returns a connection's status.
func (s *Server) statusOf(ctx context.Context, c db.Connection) status.Status {
	return status.Of(c.Row(), s.statuses(ctx)[c.Provider])
}
