package handlers

import (
	"context"
	"net/http"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/views"
)

// disconnectPage shows what disconnecting does and cannot do, and asks for confirmation.
func (s *Server) disconnectPage(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	if !c.DisconnectedAt.IsZero() {
		return redirect(w, r, "/connections/"+c.ID.String())
	}
	page := views.DisconnectPage{
		Page: s.viewPage(r), ID: c.ID.String(), Provider: s.viewProviderOf(c.Provider, c.Environment), Account: s.accountOf(c.Connection),
	}
	if c.ExpiresAt.After(s.DB.Now()) {
		page.Until = c.ExpiresAt
	}
	if provider, err := s.provider(c.Provider); err == nil && provider.Is(c.Provider, c.Environment) {
		_, page.Revokes = provider.Connector.(connectors.Revoker)
	}
	s.render(w, r, http.StatusOK, views.Disconnect(page))
	return nil
}

// disconnect ends a connection and revokes its access at the provider. The connection's page is a receipt from then on.
func (s *Server) disconnect(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	parting, ended, err := s.DB.Disconnect(r.Context(), c.ID, visitorOf(r).user.MerchantID, s.actor(r), s.Jobs)
	if err != nil {
		return err
	}
	if ended {
		if err := s.revokeAtProvider(r, parting); err != nil {
			return err
		}
	}
	return redirect(w, r, "/connections/"+c.ID.String())
}

// revokeAtProvider revokes access at the provider and records the result. If it does not get that far, the job that was
// enqueued together with the disconnection does.
func (s *Server) revokeAtProvider(r *http.Request, p db.Revocation) error {
	ctx := context.WithoutCancel(r.Context())
	revoked, call, err := s.Jobs.Revoke(ctx, p)
	if err != nil {
		s.Log.ErrorContext(ctx, "not revoked", "provider", p.Connection.Provider, "connection", p.Connection.ID, "err", err)
	}
	s.Log.InfoContext(ctx, "disconnected", "provider", p.Connection.Provider, "connection", p.Connection.ID, "revoked", revoked, "status", call.Status)
	return retrySave(ctx, func(ctx context.Context) error { return s.DB.RecordRevocation(ctx, p, revoked, call) })
}

// revokeUnwanted revokes a grant that the user chose not to keep. It does nothing while a merchant has the account connected here, and
// where the provider ends access by account: many end with one token all that the same person gave (RFC 7009 section 2.1 has the
// whole grant end).
func (s *Server) revokeUnwanted(r *http.Request, f db.Flow, g connectors.Grant) {
	provider, err := s.provider(f.Provider)
	if err != nil || !provider.Is(f.Provider, f.Environment) || provider.Connector.Info().RevokesAccount || g.Access == "" {
		return
	}
	revoker, ok := provider.Connector.(connectors.Revoker)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), jobs.RevokeLimit)
	defer cancel()
	connected, err := s.DB.AccountConnected(ctx, f.Provider, f.Environment, g.Account)
	if err != nil || connected {
		s.Log.InfoContext(ctx, "unwanted access not revoked", "provider", f.Provider, "flow", f.ID, "connected", connected, "err", err)
		return
	}
	if err := revoker.Revoke(ctx, g); err != nil {
		s.Log.InfoContext(ctx, "unwanted access not revoked", "provider", f.Provider, "flow", f.ID, "outcome", connectors.OutcomeOf(err), "reason", connectors.ReasonOf(err))
	}
}
