package handlers

import (
	"context"
	"net/http"

	"patchbay/internal/connectors"
	"patchbay/internal/db"
	"patchbay/internal/jobs"
	"patchbay/views"
)

// disconnectPage asks first, and says what will happen and what cannot.
func (s *Server) disconnectPage(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	if !c.DisconnectedAt.IsZero() {
		return redirect(w, r, "/connections/"+c.ID.String())
	}
	page := views.DisconnectPage{
		Page: s.viewPage(r), ID: c.ID.String(), Provider: s.viewProviderOf(c.Provider, c.Environment), Account: s.viewAccount(c.Provider, c.Account, c.ID.String()),
	}
	if c.ExpiresAt.After(s.DB.Now()) {
		page.Until = c.ExpiresAt
	}
	if setup, err := s.provider(c.Provider); err == nil && setup.Environment == c.Environment {
		_, page.Revokes = setup.Connector.(connectors.Revoker)
	}
	s.render(w, r, http.StatusOK, views.Disconnect(page))
	return nil
}

// disconnect ends a connection here and tells the provider. The connection's page is its receipt from now on.
func (s *Server) disconnect(w http.ResponseWriter, r *http.Request) error {
	c, err := s.connectionOfVisitor(r)
	if err != nil {
		return err
	}
	parting, ended, err := s.DB.Disconnect(r.Context(), c.ID, visitorOf(r).user.MerchantID, s.actor(r), s.revokeJobs(c.Provider, c.Environment))
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

// revokeAtProvider tells the provider that access is no longer wanted, and writes down what came of it. What it does not come to
// is left to the job that was enqueued with the end.
func (s *Server) revokeAtProvider(r *http.Request, p db.Revocation) error {
	ctx := context.WithoutCancel(r.Context())
	revoked, call, err := s.Jobs.Revoke(ctx, p)
	if err != nil {
		s.Log.ErrorContext(ctx, "not revoked", "provider", p.Connection.Provider, "connection", p.Connection.ID, "err", err)
	}
	s.Log.InfoContext(ctx, "disconnected", "provider", p.Connection.Provider, "connection", p.Connection.ID, "revoked", revoked, "status", call.Status)
	return retrySave(ctx, func(ctx context.Context) error { return s.DB.RecordRevocation(ctx, p, revoked, call) })
}

// revokeJobs takes the job that tells a provider of an end; nil where it could do nothing.
func (s *Server) revokeJobs(provider, environment string) db.Enqueue {
	if s.Jobs.RevokesByAccount(provider, environment) {
		return s.Jobs.Enqueue
	}
	return nil
}

// revokeUnwanted ends access that the person chose not to keep, where that is a matter of one token. A whole account's is
// never ended because somebody said no.
func (s *Server) revokeUnwanted(r *http.Request, f db.Flow, g connectors.Grant) {
	setup, err := s.provider(f.Provider)
	if err != nil || setup.Environment != f.Environment || setup.Connector.Info().RevokesAccount || g.Access == "" {
		return
	}
	revoker, ok := setup.Connector.(connectors.Revoker)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), jobs.RevokeLimit)
	defer cancel()
	if err := revoker.Revoke(ctx, g); err != nil {
		s.Log.InfoContext(ctx, "unwanted access not revoked", "provider", f.Provider, "flow", f.ID, "class", connectors.Class(err))
	}
}
