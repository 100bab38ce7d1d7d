package handlers

import (
	"net/http"
	"slices"
	"time"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/views"
)

// remind is how long before access ends for good the merchant is told, where renewing does not move that day.
const remind = 48 * time.Hour

// home shows a merchant's connections: connected ones first, then what can still be connected.
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
	for _, setup := range s.Providers {
		card := views.ProviderCard{Provider: viewProvider(setup), Accounts: s.viewOwned(r, owned, setup.Name)}
		switch {
		case len(card.Accounts) > 0:
			page.Connected = append(page.Connected, card)
		case setup.Connector != nil:
			page.Offered = append(page.Offered, card)
		}
	}
	for i, c := range owned {
		_, err := s.anyProvider(c.Provider)
		before := slices.ContainsFunc(owned[:i], func(b db.Owned) bool { return b.Provider == c.Provider })
		if err != nil && !before { // its settings are gone: it is still theirs to end
			page.Connected = append(page.Connected, views.ProviderCard{
				Provider: s.viewProviderOf(c.Provider, c.Environment), Accounts: s.viewOwned(r, owned, c.Provider),
			})
		}
	}
	s.render(w, r, http.StatusOK, views.Connections(page))
	return nil
}

func (s *Server) viewOwned(r *http.Request, owned []db.Owned, provider string) []views.ConnectedAccount {
	var out []views.ConnectedAccount
	for _, c := range owned {
		if c.Provider == provider {
			out = append(out, views.ConnectedAccount{
				ID: c.ID.String(), Account: s.viewAccount(c.Provider, c.Account, c.ID.String()), Health: s.viewHealth(r, c.Connection), ConnectedAt: c.ConnectedAt,
				ReconnectBy: s.reconnectBy(c.Connection, c.RefreshExpiresAt, c.RefreshFixed),
			})
		}
	}
	return out
}

// viewHealth says how a connection is. One of another environment than its provider's present one is for us to put right.
func (s *Server) viewHealth(r *http.Request, c db.Connection) views.Health {
	setup, err := s.anyProvider(c.Provider)
	if c.Health() != db.Disconnected && c.Problem == "" && (err != nil || setup.Connector == nil || setup.Environment != c.Environment) {
		c.Problem = db.ProblemEnvironment
	}
	return views.Health{State: c.Health(), Who: s.whoMustAct(r.Context(), c), Problem: c.Problem, Since: healthSince(c)}
}

// reconnectBy is the day by which the merchant must come back, zero while there is no need. Typed credentials get new
// access by themselves.
func (s *Server) reconnectBy(c db.Connection, ends time.Time, fixed bool) time.Time {
	setup, err := s.anyProvider(c.Provider)
	if err != nil || !fixed || ends.IsZero() || c.Problem != "" || ends.Sub(s.DB.Now()) > remind {
		return time.Time{}
	}
	if _, keyed := setup.Connector.(connectors.CredentialConnector); keyed {
		return time.Time{}
	}
	return ends
}
