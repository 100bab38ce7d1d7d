package handlers

import (
	"context"
	"net/http"
	"slices"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/status"
	"patchbay/views"
)

// home shows a merchant's connections, then the providers that can be connected.
func (s *Server) home(w http.ResponseWriter, r *http.Request) error {
	v := visitorOf(r)
	if v.user.Staff() {
		return redirect(w, r, "/admin")
	}
	owned, err := s.DB.MerchantConnections(r.Context(), v.user.MerchantID)
	if err != nil {
		return err
	}
	page := views.ConnectionsPage{Page: s.viewPage(r)}
	for _, provider := range s.Providers {
		card := views.ProviderCard{Provider: viewProvider(provider), Accounts: s.viewOwned(r, owned, provider.Name)}
		switch {
		case len(card.Accounts) > 0:
			page.Connected = append(page.Connected, card)
		case provider.Connector != nil:
			page.Offered = append(page.Offered, card)
		}
	}
	for i, c := range owned {
		_, err := s.anyProvider(c.Provider)
		before := slices.ContainsFunc(owned[:i], func(b db.Connection) bool { return b.Provider == c.Provider })
		if err != nil && !before { // of a provider that is no longer set up; it can still be disconnected
			page.Connected = append(page.Connected, views.ProviderCard{
				Provider: s.viewProviderOf(c.Provider, c.Environment), Accounts: s.viewOwned(r, owned, c.Provider),
			})
		}
	}
	s.render(w, r, http.StatusOK, views.Connections(page))
	return nil
}

func (s *Server) viewOwned(r *http.Request, owned []db.Connection, provider string) []views.ConnectedAccount {
	var out []views.ConnectedAccount
	providers := s.statuses(r.Context())
	for _, c := range owned {
		if c.Provider == provider {
			how := status.Of(c.Row(), providers[c.Provider])
			out = append(out, views.ConnectedAccount{
				ID: c.ID.String(), Account: s.viewAccount(c.Provider, c.Account, c.ID.String()), Status: how, ReconnectBy: how.RemindOf(s.DB.Now()),
			})
		}
	}
	return out
}

// statuses returns the providers' settings and open incidents, for status.Of.
func (s *Server) statuses(ctx context.Context) status.Providers {
	providers := connectors.Statuses(s.Providers)
	for _, one := range s.currentIncidents(ctx) {
		providers.SetIncident(one.Name, one.Environment, one.Reason)
	}
	return providers
}

// statusOf returns a connection's status.
func (s *Server) statusOf(ctx context.Context, c db.Connection) status.Status {
	return status.Of(c.Row(), s.statuses(ctx)[c.Provider])
}
